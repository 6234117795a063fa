import static io.grpc.protobuf.StatusProto.fromThrowable;

import com.google.protobuf.Any;
import com.google.protobuf.Duration;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.BadRequest.FieldViolation;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import dev.waymark.catalog.v1.Entry;
import dev.waymark.catalog.v1.EntryKey;
import dev.waymark.catalog.v1.EntryKind;
import dev.waymark.catalog.v1.Target;
import dev.waymark.discovery.v1.CatalogQueryRequest;
import dev.waymark.discovery.v1.DiscoveryServiceGrpc;
import dev.waymark.discovery.v1.DiscoveryServiceGrpc.DiscoveryServiceBlockingStub;
import dev.waymark.discovery.v1.RegisterRequest;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;

/** Calls of DiscoveryService as a program in Java makes them. */
final class Client implements AutoCloseable {
  private static final long CALL_TIMEOUT_S = 30;
  final ManagedChannel channel;

  /** A client of the node at address (host:port). */
  Client(String address) {
    channel = Grpc.newChannelBuilder(address, InsecureChannelCredentials.create()).build();
  }

  /** For one unary call: its deadline runs from now. */
  DiscoveryServiceBlockingStub call() {
    return DiscoveryServiceGrpc.newBlockingStub(channel).withWaitForReady().withDeadlineAfter(CALL_TIMEOUT_S, TimeUnit.SECONDS);
  }

  @Override
  public void close() {
    channel.shutdownNow();
  }

  /** One endpoint of a service. */
  static Entry instance(String namespace, String name, String instanceId, String note) {
    return Entry.newBuilder()
        .setKey(
            EntryKey.newBuilder()
                .setKind(EntryKind.ENTRY_KIND_SERVICE)
                .setNamespace(namespace)
                .setName(name)
                .setInstanceId(instanceId))
        .addTargets(Target.newBuilder().setHost("10.3.0.1").setPort(8080).setProtocol("grpc"))
        .addTags("interop")
        .putMetadata("note", note)
        .build();
  }

  /** Puts the entries under a new lease. A repeat with the same key, as after a lost answer, returns the same lease. */
  String register(Iterable<Entry> entries, long ttlS, String idempotencyKey) {
    RegisterRequest request =
        RegisterRequest.newBuilder()
            .addAllEntries(entries)
            .setTtl(Duration.newBuilder().setSeconds(ttlS))
            .setIdempotencyKey(idempotencyKey)
            .build();
    return call().register(request).getLeaseId();
  }

  /** Puts more entries, or changed ones, under a lease that the program has. */
  void addTo(String leaseId, Iterable<Entry> entries) {
    call().register(RegisterRequest.newBuilder().addAllEntries(entries).setLeaseId(leaseId).build());
  }

  /** The entries of all pages in the order they came, and how many pages it took. */
  record Listing(List<Entry> items, int pages) {}

  Listing query(String namespace, int limit) {
    var request = CatalogQueryRequest.newBuilder().setNamespace(namespace).setLimit(limit);
    var items = new ArrayList<Entry>();
    for (int pages = 1; ; pages++) {
      var page = call().catalogQuery(request.build());
      items.addAll(page.getItemsList());
      if (page.getNextPageToken().isEmpty()) return new Listing(items, pages);
      request.setPageToken(page.getNextPageToken());
    }
  }

  /** What a failed call says; clients match the reason, never the text. */
  record Refusal(String code, String reason, List<String> fields, long retryMs) {}

  static Refusal refusalOf(StatusRuntimeException error) throws InvalidProtocolBufferException {
    String reason = "";
    List<String> fields = List.of();
    long retryMs = -1;
    for (Any detail : fromThrowable(error).getDetailsList()) {
      if (detail.is(ErrorInfo.class)) {
        reason = detail.unpack(ErrorInfo.class).getReason();
      } else if (detail.is(BadRequest.class)) {
        fields = detail.unpack(BadRequest.class).getFieldViolationsList().stream().map(FieldViolation::getField).toList();
      } else if (detail.is(RetryInfo.class)) {
        Duration delay = detail.unpack(RetryInfo.class).getRetryDelay();
        retryMs = delay.getSeconds() * 1_000 + delay.getNanos() / 1_000_000;
      }
    }
    return new Refusal(error.getStatus().getCode().name(), reason, fields, retryMs);
  }

  /** Makes a call that must be refused so; returns what it says. */
  static Refusal wanted(Runnable call, String code, String reason) throws InvalidProtocolBufferException {
    try {
      call.run();
    } catch (StatusRuntimeException error) {
      Refusal said = refusalOf(error);
      if (said.code().equals(code) && said.reason().equals(reason)) return said;
      throw error;
    }
    throw new IllegalStateException("wanted " + code + " " + reason + ", got an answer");
  }
}
