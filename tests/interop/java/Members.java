import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Scanner;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * Members of one consumer group in one process, by Kafka's own client: ADDRESS GROUP SUBSCRIPTION [SETTING=VALUE]...
 *
 * <p>SUBSCRIPTION is a topic, or /PATTERN. Commands come by stdin, one a line: "start NAME [SETTING=VALUE]...", "stop NAME".
 * Told on stdout, one a line, behind the milliseconds since the epoch: "NAME gained TOPIC-N...", "NAME lost TOPIC-N...",
 * "NAME read TOPIC-N OFFSET VALUE", "NAME ended" or "NAME failed WHY".
 */
public class Members {
    private static synchronized void tell(String line) {
        System.out.println(System.currentTimeMillis() + " " + line);
        System.out.flush();
    }

    private static class Member extends Thread implements ConsumerRebalanceListener {
        private final String name;
        private final String subscription;
        private final KafkaConsumer<String, String> consumer;
        private volatile boolean stopping = false;

        Member(String name, String subscription, Properties settings) {
            super(name);
            this.name = name;
            this.subscription = subscription;
            this.consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
        }

        @Override
        public void run() {
            try {
                if (subscription.startsWith("/")) {
                    consumer.subscribe(new SubscriptionPattern(subscription.substring(1)), this);
                } else {
                    consumer.subscribe(List.of(subscription), this);
                }
                while (!stopping) {
                    var records = consumer.poll(Duration.ofMillis(50));
                    for (var one : records) {
                        tell(name + " read " + one.topic() + "-" + one.partition() + " " + one.offset() + " " + one.value());
                    }
                    if (!records.isEmpty()) {
                        consumer.commitSync();
                    }
                }
                consumer.close();
                tell(name + " ended");
            } catch (Exception failure) {
                tell(name + " failed " + failure);
            }
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            tell(name + " gained" + words(partitions));
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            tell(name + " lost" + words(partitions));
        }

        private static String words(Collection<TopicPartition> partitions) {
            var words = new StringBuilder();
            partitions.forEach(one -> words.append(' ').append(one));
            return words.toString();
        }
    }

    private static void set(Properties settings, List<String> words) {
        for (String word : words) {
            String[] pair = word.split("=", 2);
            settings.setProperty(pair[0], pair[1]);
        }
    }

    public static void main(String[] arguments) throws InterruptedException {
        Map<String, Member> members = new ConcurrentHashMap<>();
        var common = List.of(arguments).subList(3, arguments.length);
        var commands = new Scanner(System.in);
        while (commands.hasNextLine()) {
            var words = new ArrayList<>(List.of(commands.nextLine().split(" ")));
            if (words.get(0).equals("stop")) {
                members.remove(words.get(1)).stopping = true;
                continue;
            }
            var settings = new Properties();
            settings.setProperty("bootstrap.servers", arguments[0]);
            settings.setProperty("group.id", arguments[1]);
            settings.setProperty("group.protocol", "consumer");
            settings.setProperty("auto.offset.reset", "earliest");
            settings.setProperty("enable.auto.commit", "false");
            set(settings, common);
            set(settings, words.subList(2, words.size()));
            var member = new Member(words.get(1), arguments[2], settings);
            members.put(words.get(1), member);
            member.start();
        }
        members.values().forEach(member -> member.stopping = true);
        for (Member member : members.values()) {
            member.join();
        }
    }
}
