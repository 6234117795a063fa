import com.google.protobuf.Duration;
import dev.waymark.discovery.v1.DiscoveryServiceGrpc;
import dev.waymark.discovery.v1.KeepAliveRequest;
import dev.waymark.discovery.v1.KeepAliveResponse;
import io.grpc.ManagedChannel;
import io.grpc.stub.StreamObserver;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;

/** Renews a lease on one stream until it is closed or until the node does not hold the lease any more. */
final class KeepAlive implements StreamObserver<KeepAliveResponse>, AutoCloseable {
  private final ScheduledExecutorService timer = Executors.newSingleThreadScheduledExecutor();
  private final KeepAliveRequest request;
  private StreamObserver<KeepAliveRequest> requests;
  private boolean isOver;
  private long renewals;

  KeepAlive(String leaseId) {
    request = KeepAliveRequest.newBuilder().addLeaseIds(leaseId).build();
  }

  synchronized void start(ManagedChannel channel) {
    requests = DiscoveryServiceGrpc.newStub(channel).withWaitForReady().keepAlive(this);
    requests.onNext(request);
  }

  @Override
  public synchronized void onNext(KeepAliveResponse response) {
    if (response.getExpiredLeaseIdsCount() > 0) {
      close(); // Register again.
      return;
    }
    renewals++;
    long thirdMs = millis(response.getTtl()) / 3; // No ttl: the lease is static.
    if (!isOver) timer.schedule(this::renew, Math.max(thirdMs, 300), TimeUnit.MILLISECONDS);
  }

  @Override
  public synchronized void onError(Throwable error) {
    end(); // The stream's end does not end the lease: open the next one.
  }

  @Override
  public synchronized void onCompleted() {
    end();
  }

  @Override
  public synchronized void close() {
    if (!isOver) requests.onCompleted();
    end();
  }

  synchronized long renewals() {
    return renewals;
  }

  private synchronized void renew() {
    if (!isOver) requests.onNext(request);
  }

  private void end() {
    isOver = true;
    timer.shutdownNow();
  }

  private static long millis(Duration duration) {
    return duration.getSeconds() * 1_000 + duration.getNanos() / 1_000_000;
  }
}
