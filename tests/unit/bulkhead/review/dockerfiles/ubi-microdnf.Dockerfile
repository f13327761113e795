# expect: base-without-digest
FROM registry.access.redhat.com/ubi9/ubi-minimal:9.4
RUN microdnf install -y --nodocs java-21-openjdk-headless && microdnf clean all && rm -rf /var/cache/yum
COPY target/app.jar /app.jar
ENTRYPOINT ["java", "-jar", "/app.jar"]
