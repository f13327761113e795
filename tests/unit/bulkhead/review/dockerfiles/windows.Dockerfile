# escape=`
# expect: base-without-digest
FROM mcr.microsoft.com/windows/servercore:ltsc2022
SHELL ["powershell", "-Command", "$ErrorActionPreference = 'Stop';"]
RUN Invoke-WebRequest https://example.org/a.zip -OutFile a.zip ; `
    Expand-Archive a.zip ; `
    rm a.zip
RUN npm install
COPY app C:\app
CMD ["C:\\app\\run.exe"]
