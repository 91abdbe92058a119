import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.networknt.schema.JsonSchema;
import com.networknt.schema.JsonSchemaFactory;
import com.networknt.schema.SpecVersion;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Produced;

/**
 * An exactly-once drain with Kafka Streams: records of TOPIC go to OUTPUT. Environment: KAFKA_BROKERS, TOPIC, OUTPUT, GROUP (the application id), STATE_DIR, ORDER_SCHEMA (a file; where
 * it is given, each value is parsed, checked against it and answered with a changed object). Runs until SIGTERM.
 */
public final class Drain {
  private static final ObjectMapper JSON = new ObjectMapper();

  public static void main(String[] args) throws IOException {
    String output = System.getenv("OUTPUT");
    Properties settings = new Properties();
    settings.put("application.id", System.getenv("GROUP"));
    settings.put("bootstrap.servers", System.getenv("KAFKA_BROKERS"));
    settings.put("state.dir", System.getenv("STATE_DIR"));
    settings.put("processing.guarantee", "exactly_once_v2");
    settings.put("num.stream.threads", "1");
    settings.put("commit.interval.ms", "100");
    settings.put("auto.offset.reset", "earliest");
    settings.put("consumer.max.poll.records", "5000");
    settings.put("producer.compression.type", "lz4");

    StreamsBuilder builder = new StreamsBuilder();
    KStream<byte[], byte[]> input =
        builder.stream(System.getenv("TOPIC"), Consumed.with(Serdes.ByteArray(), Serdes.ByteArray()));
    String schemaFile = System.getenv("ORDER_SCHEMA");
    if (schemaFile != null) {
      JsonSchema schema =
          JsonSchemaFactory.getInstance(SpecVersion.VersionFlag.V202012).getSchema(Files.readString(Path.of(schemaFile)));
      input = input.mapValues(value -> priced(value, schema));
    }
    input.to(output, Produced.with(Serdes.ByteArray(), Serdes.ByteArray()));

    KafkaStreams streams = new KafkaStreams(builder.build(), settings);
    streams.setUncaughtExceptionHandler(
        fault -> {
          fault.printStackTrace();
          return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
    Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
    streams.start();
  }

  private static byte[] priced(byte[] value, JsonSchema schema) {
    try {
      JsonNode order = JSON.readTree(value);
      var faults = schema.validate(order);
      if (!faults.isEmpty()) throw new IllegalArgumentException(faults.toString());
      ObjectNode answer = (ObjectNode) order;
      answer.put("total", order.get("total").doubleValue() * 1.19);
      answer.put("priced", true);
      return JSON.writeValueAsBytes(answer);
    } catch (IOException fault) {
      throw new UncheckedIOException(fault);
    }
  }
}
