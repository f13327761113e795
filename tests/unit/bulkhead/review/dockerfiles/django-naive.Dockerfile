# file: .env : DJANGO_SECRET_KEY=8sd9f7s9df87\nDEBUG=0
# file: requirements.txt : Django
# ignore: .git
# expect: base-without-digest full-base single-stage
FROM python:3.12
# expect: secret-in-variable
ENV DATABASE_PASSWORD=hunter2 DEBUG=0
# expect: package-cache
RUN apt-get update
# expect: toolchain-in-image=300.0MiB
RUN apt-get install -y gcc libpq-dev
WORKDIR /code
# expect: copy-before-install secret-copied/error
COPY . .
# expect: package-cache
RUN pip install -r requirements.txt
CMD python manage.py runserver 0.0.0.0:8000
