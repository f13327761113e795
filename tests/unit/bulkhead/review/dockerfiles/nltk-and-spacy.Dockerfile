# expect: base-without-digest
FROM python:3.11-slim
RUN pip install --no-cache-dir nltk spacy
RUN python -m spacy download en_core_web_sm
# expect: model-download
RUN python -m spacy download en_core_web_trf
# expect: model-download
RUN python -m nltk.downloader all
# expect: model-download
RUN <<EOF
#!/usr/bin/env python3
import nltk
nltk.download("wordnet")
EOF
CMD ["python", "-m", "app"]
