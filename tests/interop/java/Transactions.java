import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** The Java client's transactions: committed, aborted, with offsets, fenced, timed out. Prints one "name: outcome" a line. */
public class Transactions {
    static String address;
    static String topic;

    static KafkaProducer<String, String> producer(String id, int timeoutMs) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", address);
        settings.put("transactional.id", id);
        settings.put("transaction.timeout.ms", timeoutMs);
        KafkaProducer<String, String> made = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer());
        made.initTransactions();
        return made;
    }

    static void send(KafkaProducer<String, String> producer, String value) throws Exception {
        for (int partition = 0; partition < 2; partition++) {
            producer.send(new ProducerRecord<>(topic, partition, null, value)).get();
        }
    }

    static List<String> read(String isolation) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", address);
        settings.put("isolation.level", isolation);
        List<String> values = new ArrayList<>();
        try (KafkaConsumer<String, String> consumer =
                new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            TopicPartition where = new TopicPartition(topic, 0);
            consumer.assign(List.of(where));
            consumer.seekToBeginning(List.of(where));
            long end = consumer.endOffsets(List.of(where)).get(where);
            while (consumer.position(where) < end) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
                    values.add(record.value());
                }
            }
        }
        return values;
    }

    static void tell(String name, Object outcome) {
        System.out.println(name + ": " + outcome);
    }

    static String failure(String name, KafkaProducer<String, String> producer, boolean sends) {
        try {
            if (sends) {
                producer.beginTransaction();
                producer.send(new ProducerRecord<>(topic, 0, null, name)).get();
            }
            producer.commitTransaction();
            return "none";
        } catch (Exception failure) {
            Throwable cause = failure instanceof java.util.concurrent.ExecutionException ? failure.getCause() : failure;
            return cause.getClass().getSimpleName();
        }
    }

    public static void main(String[] arguments) throws Exception {
        address = arguments[0];
        topic = arguments[1];
        String group = arguments[2];
        KafkaProducer<String, String> old = producer("java", 60_000);
        old.beginTransaction();
        send(old, "a");
        tell("while open", read("read_committed") + " " + read("read_uncommitted"));
        old.commitTransaction();
        old.beginTransaction();
        send(old, "never");
        old.abortTransaction();
        old.beginTransaction();
        send(old, "b");
        TopicPartition where = new TopicPartition(topic, 0);
        old.sendOffsetsToTransaction(Map.of(where, new OffsetAndMetadata(3)), new ConsumerGroupMetadata(group));
        old.commitTransaction();
        KafkaProducer<String, String> fresh = producer("java", 60_000);
        tell("fenced", failure("fenced", old, true));
        KafkaProducer<String, String> hung = producer("hung", 1_000);
        hung.beginTransaction();
        send(hung, "hung");
        Thread.sleep(3_000);
        tell("timed out", failure("timed out", hung, false));
        fresh.beginTransaction();
        send(fresh, "c");
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", address))) {
            Map<String, String> states = new TreeMap<>();
            admin.listTransactions().all().get().forEach(one -> states.put(one.transactionalId(), one.state().toString()));
            tell("listed", states);
            tell("described", admin.describeTransactions(List.of("java")).all().get().get("java").topicPartitions().size());
            boolean open = admin.describeProducers(List.of(where)).all().get().get(where).activeProducers().stream()
                    .anyMatch(one -> one.currentTransactionStartOffset().isPresent());
            tell("producers", open);
            fresh.commitTransaction();
            tell("offsets", admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(where).offset());
        }
        tell("read", read("read_committed"));
        System.exit(0);
    }
}
