import com.google.gson.FieldNamingPolicy;
import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.annotations.SerializedName;
import com.google.protobuf.Duration;
import com.google.protobuf.InvalidProtocolBufferException;
import dev.waymark.catalog.v1.DiscoveryDelta;
import dev.waymark.catalog.v1.Entry;
import dev.waymark.catalog.v1.EntryKey;
import dev.waymark.catalog.v1.Snapshot;
import dev.waymark.discovery.v1.CatalogQueryRequest;
import dev.waymark.discovery.v1.CatalogWatchRequest;
import dev.waymark.discovery.v1.CatalogWatchResponse;
import dev.waymark.discovery.v1.DiscoveryServiceGrpc;
import dev.waymark.discovery.v1.RenewRequest;
import dev.waymark.discovery.v1.ResolveRequest;
import dev.waymark.discovery.v1.ServerInfoRequest;
import dev.waymark.discovery.v1.UnregisterRequest;
import io.grpc.Context;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Predicate;

/**
 * A client of Waymark made with Java's own tools, with the same scenario as test/interop/go/main.go.
 *
 * <p>It prints one JSON object a line: an event when the test must restart the node, and last the summary. The test answers
 * an event with the node's address on a line of stdin.
 */
final class Main {
  private static final String NAMESPACE = "interop.java";
  private static final int ENTRIES = 250;
  private static final int PAGE_LIMIT = 40;
  private static final long LEASE_TTL_S = 10;
  private static final long PATIENCE_S = 60;
  private static final String REFUSED = "INVALID_ARGUMENT";
  private static final Gson JSON = new GsonBuilder().setFieldNamingPolicy(FieldNamingPolicy.LOWER_CASE_WITH_UNDERSCORES).create();
  private static final Comparator<EntryKey> KEY_ORDER =
      Comparator.comparing(EntryKey::getNamespace)
          .thenComparing(EntryKey::getName)
          .thenComparing(EntryKey::getKindValue)
          .thenComparing(EntryKey::getInstanceId)
          .thenComparing(EntryKey::getClusterId);

  /** One stretch of a watch: how it began and what it told. */
  private record Part(boolean beganWithSnapshot, Fold.Tally told, int held) {}

  /** What the test reads; the same names in every language. */
  private static final class Summary {
    String event = "done";
    String nodeId;
    int registered;
    boolean sameLease;
    int pages;
    int paged;
    Client.Refusal badEntry;
    Client.Refusal badToken;
    Client.Refusal badCursor;
    String resolved;
    Part first;

    @SerializedName("short")
    Part byShort;

    Client.Refusal cut;
    boolean farewell;
    boolean reRegistered;
    Part portable;
    Part foreignShort;
    long renewals;
    boolean leaseOutlived;
    int unregistered;
    int left;
  }

  private final BufferedReader answers = new BufferedReader(new InputStreamReader(System.in));
  private final Map<String, Entry> mine = new HashMap<>(); // What this program has registered, by instance id.
  private final Fold fold = new Fold();
  private final Summary out = new Summary();
  private Client client;
  private KeepAlive alive;
  private String lease = "";

  public static void main(String[] args) throws Exception {
    if (args.length != 2 || !args[0].equals("--address")) throw new IllegalArgumentException("usage: --address HOST:PORT");
    Main run = new Main();
    run.all(args[1]);
    System.out.println(JSON.toJson(run.out));
  }

  private void all(String address) throws Exception {
    long beganNs = System.nanoTime();
    connect(address);
    refusals();
    register();
    pages();
    watchAndResume();
    String foreign = restart();
    // A short cursor of the process before is answered with a snapshot, not with an error.
    out.foreignShort = watch(foreign, this::isWhole);
    // Longer than the lease: only the renewals can have kept it.
    Thread.sleep(Math.max(0, (LEASE_TTL_S + 1) * 1_000 - TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - beganNs)));
    out.leaseOutlived = true;
    leave();
  }

  private void connect(String address) {
    if (client != null) {
      retire();
      client.close();
    }
    client = new Client(address);
    out.nodeId = client.call().serverInfo(ServerInfoRequest.getDefaultInstance()).getNodeId();
  }

  private void renewInBackground() {
    alive = new KeepAlive(lease);
    alive.start(client.channel);
  }

  private void retire() {
    alive.close();
    out.renewals += alive.renewals();
  }

  private void refusals() throws InvalidProtocolBufferException {
    List<Entry> bad = List.of(Client.instance("Not.A.Namespace", "web", "i0", ""));
    out.badEntry = Client.wanted(() -> client.register(bad, LEASE_TTL_S, ""), REFUSED, REFUSED);
    var forged = CatalogWatchRequest.newBuilder().setNamespace(NAMESPACE).setCursor("s1.forged").build();
    out.badCursor = Client.wanted(() -> client.call().catalogWatch(forged).next(), REFUSED, REFUSED);
  }

  private void register() {
    var batch = new ArrayList<Entry>();
    for (int i = 0; i < ENTRIES; i++) {
      Entry entry = Client.instance(NAMESPACE, String.format("svc-%02d", i % 20), String.format("i%03d", i), "first");
      // A snapshot of several messages.
      batch.add(entry.toBuilder().putMetadata("filler", String.format("%0300d", i)).build());
    }
    for (Entry entry : batch) mine.put(entry.getKey().getInstanceId(), entry);
    String key = "java-" + UUID.randomUUID();
    lease = client.register(batch, LEASE_TTL_S, key);
    out.sameLease = client.register(batch, LEASE_TTL_S, key).equals(lease);
    out.registered = batch.size();
    renewInBackground();
  }

  private void pages() throws InvalidProtocolBufferException {
    Client.Listing listing = client.query(NAMESPACE, PAGE_LIMIT);
    out.pages = listing.pages();
    out.paged = listing.items().size();
    List<EntryKey> keys = listing.items().stream().map(Entry::getKey).toList();
    check(keys.equals(keys.stream().distinct().sorted(KEY_ORDER).toList()), "the pages are not in key order, or repeat a key");
    for (Entry item : listing.items()) {
      check(item.getNodeId().equals(out.nodeId) && mine.containsKey(item.getKey().getInstanceId()), "did not register " + item.getKey());
    }
    var request = CatalogQueryRequest.newBuilder().setNamespace(NAMESPACE).setLimit(1);
    request.setPageToken(client.call().catalogQuery(request.build()).getNextPageToken()).setNamespace("interop.other");
    out.badToken = Client.wanted(() -> client.call().catalogQuery(request.build()), REFUSED, REFUSED);
    var resolved = client.call().resolve(ResolveRequest.newBuilder().setNamespace(NAMESPACE).setName("svc-07").build());
    var target = resolved.getTarget();
    out.resolved = resolved.getEntry().getKey().getName() + " at " + target.getHost() + ":" + target.getPort();
  }

  /** Makes one UPDATE, one REMOVE and one CREATE; round keeps the keys of one call apart from those of another. */
  private void change(int round) {
    Entry before = mine.get(String.format("i%03d", round));
    Entry updated = before.toBuilder().putMetadata("note", "round " + round).build();
    Entry created = Client.instance(NAMESPACE, "late", "late-" + round, "new");
    client.addTo(lease, List.of(updated, created));
    mine.put(updated.getKey().getInstanceId(), updated);
    mine.put(created.getKey().getInstanceId(), created);
    Entry removed = mine.remove(String.format("i%03d", 100 + round));
    var gone = client.call().unregister(UnregisterRequest.newBuilder().addKeys(removed.getKey()).build());
    check(gone.getRemoved() == 1, "removed " + gone.getRemoved() + " entries instead of 1");
  }

  private CatalogWatchRequest watchRequest(String cursor, long bookmarkS) {
    return CatalogWatchRequest.newBuilder()
        .setNamespace(NAMESPACE)
        .setCursor(cursor)
        .setWithDigest(true)
        .setBookmarkInterval(Duration.newBuilder().setSeconds(bookmarkS))
        .build();
  }

  /** Follows the namespace from a cursor ("" for a snapshot) and folds until isDone. */
  private Part watch(String cursor, Predicate<CatalogWatchResponse> isDone) {
    return watch(watchRequest(cursor, 1), isDone);
  }

  /** Folds until isDone; then it cancels the stream. */
  private Part watch(CatalogWatchRequest request, Predicate<CatalogWatchResponse> isDone) {
    Fold.Tally before = fold.told();
    try (Context.CancellableContext context = Context.current().withCancellation()) {
      Context previous = context.attach();
      try {
        var stub = DiscoveryServiceGrpc.newBlockingStub(client.channel).withWaitForReady().withDeadlineAfter(PATIENCE_S, TimeUnit.SECONDS);
        Iterator<CatalogWatchResponse> stream = stub.catalogWatch(request);
        boolean beganWithSnapshot = false;
        for (boolean isFirst = true; stream.hasNext(); isFirst = false) {
          CatalogWatchResponse message = stream.next();
          fold.apply(message);
          if (isFirst) beganWithSnapshot = message.getSnapshot() == Snapshot.SNAPSHOT_BEGIN;
          if (isDone.test(message)) return new Part(beganWithSnapshot, fold.told().minus(before), fold.held.size());
        }
        throw new IllegalStateException("the server ended the watch without an error");
      } finally {
        context.detach(previous);
        fold.broken();
      }
    }
  }

  /** Whether what the watch gave is what this program has registered, to the content. */
  private boolean isEqual() {
    if (fold.held.size() != mine.size()) return false;
    for (DiscoveryDelta delta : fold.held.values()) {
      Entry entry = mine.get(delta.getEntry().getKey().getInstanceId());
      if (entry == null || !noteOf(entry).equals(noteOf(delta.getEntry()))) return false;
    }
    return true;
  }

  /** Whether the message says "nothing is missing up to here", with the catalog as this program knows it. */
  private boolean isWhole(CatalogWatchResponse message) {
    return (message.getBookmark() || message.getSnapshot() == Snapshot.SNAPSHOT_END) && isEqual();
  }

  private void watchAndResume() {
    var isChanged = new AtomicBoolean();
    Predicate<CatalogWatchResponse> isDone =
        message -> {
          if (!isWhole(message)) return false;
          if (isChanged.getAndSet(true)) return true;
          change(1); // At END: now the same stream must bring three changes.
          return false;
        };
    out.first = watch("", isDone);
    change(2);
    out.byShort = watch(fold.shortCursor, this::isWhole);
  }

  /**
   * Watches until the node is gone, and goes on at the address the test gives, from the portable cursor. Returns the short
   * cursor of the node that is gone.
   */
  private String restart() throws IOException {
    change(3);
    var isAsked = new AtomicBoolean();
    // The difference is told, then a bookmark; from there they are 10 s apart: one that comes after the question is the last
    // word of a node that stops.
    Predicate<CatalogWatchResponse> isDone =
        message -> {
          out.farewell |= isAsked.get() && message.getBookmark();
          if (!isAsked.get() && message.getBookmark() && isEqual()) {
            isAsked.set(true);
            System.out.println(JSON.toJson(Map.of("event", "restart")));
          }
          return false;
        };
    try {
      watch(watchRequest(fold.portableCursor, 10), isDone);
    } catch (StatusRuntimeException broken) {
      if (broken.getStatus().getCode() != Status.Code.UNAVAILABLE) throw broken;
      out.cut = Client.refusalOf(broken);
    }
    String foreign = fold.shortCursor;
    connect(answers.readLine());
    regain();
    change(4);
    out.portable = watch(fold.portableCursor, this::isWhole);
    return foreign;
  }

  /** Renews the lease at a node that came back, or registers everything again where that node has lost it. */
  private void regain() {
    var renewed = client.call().renew(RenewRequest.newBuilder().addLeaseIds(lease).build());
    out.reRegistered = renewed.getExpiredLeaseIdsCount() > 0;
    if (out.reRegistered) lease = client.register(mine.values(), LEASE_TTL_S, "");
    renewInBackground();
  }

  private void leave() {
    var gone = client.call().unregister(UnregisterRequest.newBuilder().setLeaseId(lease).build());
    retire();
    out.unregistered = gone.getRemoved();
    mine.clear();
    out.left = watch(fold.portableCursor, this::isWhole).held();
    client.close();
  }

  private static String noteOf(Entry entry) {
    return entry.getMetadataOrThrow("note");
  }

  private static void check(boolean isSo, String fault) {
    if (!isSo) throw new IllegalStateException(fault);
  }
}
