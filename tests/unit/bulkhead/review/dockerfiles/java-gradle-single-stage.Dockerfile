# expect: base-without-digest single-stage
FROM gradle:8-jdk21
WORKDIR /home/gradle/src
COPY --chown=gradle:gradle . .
RUN gradle build --no-daemon
CMD ["java", "-jar", "build/libs/app.jar"]
