import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.cloudevents.CloudEvent;
import io.cloudevents.core.builder.CloudEventBuilder;
import io.cloudevents.core.message.MessageWriter;
import io.cloudevents.http.HttpMessageFactory;
import io.cloudevents.jackson.JsonFormat;
import io.cloudevents.kafka.CloudEventDeserializer;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.UncheckedIOException;
import java.net.HttpURLConnection;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.header.internals.RecordHeaders;

/** CloudEvents' SDK for Java as a sender and a reader: ../../clients-sdks.ts defines input and output. */
public final class Client {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final int TIMEOUT_MS = 20_000;

    public static void main(String[] args) throws Exception {
        JsonNode orders = JSON.readTree(System.in);
        ObjectNode answers = JSON.createObjectNode();
        var sends = answers.putArray("sends");
        for (JsonNode order : orders.get("sends")) {
            sends.add(trying(() -> send(orders.get("url").asText(), order)));
        }
        var records = answers.putArray("records");
        for (JsonNode record : orders.get("records")) {
            records.add(trying(() -> read(record)));
        }
        System.out.write(JSON.writeValueAsBytes(answers));
        System.out.flush();
    }

    private interface Attempt {
        ObjectNode run() throws Exception;
    }

    private static ObjectNode trying(Attempt attempt) {
        try {
            return attempt.run();
        } catch (Exception error) {
            return JSON.createObjectNode().put("error", error.toString());
        }
    }

    private static CloudEvent eventOf(JsonNode given) throws Exception {
        var builder = CloudEventBuilder.v1()
            .withId(given.get("id").asText())
            .withSource(URI.create(given.get("source").asText()))
            .withType(given.get("type").asText())
            .withSubject(given.get("subject").asText())
            .withTime(OffsetDateTime.parse(given.get("time").asText()));
        if (given.has("dataschema")) {
            builder = builder.withDataSchema(URI.create(given.get("dataschema").asText()));
        }
        if (!given.get("data").isNull()) {
            builder = builder.withData(given.get("datacontenttype").asText(), given.get("data").binaryValue());
        }
        for (Map.Entry<String, JsonNode> extension : given.get("extensions").properties()) {
            builder = builder.withExtension(extension.getKey(), extension.getValue().asText());
        }
        return builder.build();
    }

    private static ObjectNode send(String url, JsonNode order) throws Exception {
        List<CloudEvent> events = new ArrayList<>();
        for (JsonNode event : order.get("events")) {
            events.add(eventOf(event));
        }
        var connection = (HttpURLConnection) URI.create(url).toURL().openConnection();
        connection.setRequestMethod("POST");
        connection.setDoOutput(true);
        connection.setConnectTimeout(TIMEOUT_MS);
        connection.setReadTimeout(TIMEOUT_MS);
        switch (order.get("mode").asText()) {
            case "binary" -> writer(connection).writeBinary(events.get(0));
            case "structured" -> writer(connection).writeStructured(events.get(0), JsonFormat.CONTENT_TYPE);
            default -> {
                // The SDK does not support batches.
                connection.setRequestProperty("content-type", "application/cloudevents-batch+json");
                var body = new ByteArrayOutputStream();
                for (CloudEvent event : events) {
                    body.write(body.size() == 0 ? '[' : ',');
                    body.write(new JsonFormat().serialize(event));
                }
                body.write(']');
                write(connection, body.toByteArray());
            }
        }
        int status = connection.getResponseCode();
        try (InputStream body = status < 400 ? connection.getInputStream() : connection.getErrorStream()) {
            return JSON.createObjectNode()
                .put("status", status)
                .put("body", new String(body.readAllBytes(), StandardCharsets.UTF_8));
        }
    }

    private static MessageWriter<?, ?> writer(HttpURLConnection connection) {
        return HttpMessageFactory.createWriter(connection::setRequestProperty, body -> write(connection, body));
    }

    private static void write(HttpURLConnection connection, byte[] body) {
        // A connection with a body always gets a media type, even without data.
        if (body == null || body.length == 0) {
            return;
        }
        try (OutputStream out = connection.getOutputStream()) {
            out.write(body);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    private static ObjectNode read(JsonNode record) throws Exception {
        var headers = new RecordHeaders();
        for (JsonNode header : record.get("headers")) {
            headers.add(header.get(0).asText(), Base64.getDecoder().decode(header.get(1).asText()));
        }
        JsonNode value = record.get("value");
        CloudEvent event;
        try (var deserializer = new CloudEventDeserializer()) {
            event = deserializer.deserialize("", headers, value.isNull() ? null : value.binaryValue());
        }
        ObjectNode found = JSON.createObjectNode();
        for (String name : event.getAttributeNames()) {
            if (!name.equals("specversion")) {
                found.put(name, event.getAttribute(name).toString());
            }
        }
        ObjectNode extensions = found.putObject("extensions");
        for (String name : event.getExtensionNames()) {
            extensions.put(name, event.getExtension(name).toString());
        }
        found.put("data", event.getData() == null ? null : Base64.getEncoder().encodeToString(event.getData().toBytes()));
        return found;
    }
}
