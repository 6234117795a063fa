import static java.nio.charset.StandardCharsets.UTF_8;

import dev.waymark.catalog.v1.DiscoveryDelta;
import dev.waymark.catalog.v1.EntryKey;
import dev.waymark.catalog.v1.Snapshot;
import dev.waymark.discovery.v1.CatalogWatchResponse;
import java.nio.ByteBuffer;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** What a reader of CatalogWatch holds: the rules of docs/guides/watch.md in one class. */
final class Fold {
  /** The newest delta of every key. */
  final Map<EntryKey, DiscoveryDelta> held = new HashMap<>();

  /** The newest cursors to resume from. */
  String shortCursor = "";

  String portableCursor = "";

  /** Keys told since BEGIN; null outside a snapshot. */
  private Set<EntryKey> listed;

  /** Namespaces that a scoped snapshot speaks for; empty means all. */
  private List<String> replaces = List.of();

  /** Counts of what a reader was told. */
  record Tally(int messages, int creates, int updates, int removes, int snapshots, int bookmarks, int digests) {
    Tally minus(Tally before) {
      return new Tally(
          messages - before.messages,
          creates - before.creates,
          updates - before.updates,
          removes - before.removes,
          snapshots - before.snapshots,
          bookmarks - before.bookmarks,
          digests - before.digests);
    }
  }

  private int messages, creates, updates, removes, snapshots, bookmarks, digests;

  Tally told() {
    return new Tally(messages, creates, updates, removes, snapshots, bookmarks, digests);
  }

  /** Folds one message; throws when count or digest say that this reader is not where the server thinks it is. */
  void apply(CatalogWatchResponse message) {
    messages++;
    if (message.getSnapshot() == Snapshot.SNAPSHOT_BEGIN) {
      listed = new HashSet<>();
      replaces = message.getReplacesList();
      snapshots++;
    }
    message.getDeltasList().forEach(this::change);
    boolean isEnd = message.getSnapshot() == Snapshot.SNAPSHOT_END;
    if (isEnd) dropUnlisted();
    if (listed != null) return; // Inside a snapshot nothing is known to be whole: no cursor, no digest.
    if (!message.getCursor().isEmpty()) shortCursor = message.getCursor();
    if (!message.getPortableCursor().isEmpty()) portableCursor = message.getPortableCursor();
    if (message.getBookmark()) bookmarks++;
    if (message.getBookmark() || isEnd) check(message);
  }

  private void change(DiscoveryDelta delta) {
    switch (delta.getAction()) {
      case ACTION_CREATE, ACTION_UPDATE -> {
        if (delta.getAction() == DiscoveryDelta.Action.ACTION_CREATE) creates++;
        else updates++;
        EntryKey key = delta.getEntry().getKey();
        held.put(key, delta);
        if (listed != null) listed.add(key);
      }
      case ACTION_REMOVE -> {
        removes++;
        held.remove(delta.getRemoved());
      }
      default -> {} // An action of a later version.
    }
  }

  /** Ends a snapshot: what it speaks for and did not list is not there. */
  private void dropUnlisted() {
    held.values()
        .removeIf(
            delta -> {
              boolean isCovered = replaces.isEmpty() || replaces.contains(delta.getNamespace());
              return isCovered && !listed.contains(delta.getEntry().getKey());
            });
    broken();
  }

  /** Called when a stream ends: a snapshot it was in the middle of is void. */
  void broken() {
    listed = null;
    replaces = List.of();
  }

  /** The sum of the first 8 bytes of SHA-256(delta_id) over what is held, modulo 2^64. */
  long digest() {
    try {
      MessageDigest sha256 = MessageDigest.getInstance("SHA-256");
      return held.values().stream().mapToLong(delta -> ByteBuffer.wrap(sha256.digest(delta.getDeltaId().getBytes(UTF_8))).getLong()).sum();
    } catch (NoSuchAlgorithmException error) {
      throw new IllegalStateException(error); // Every Java has SHA-256.
    }
  }

  private void check(CatalogWatchResponse message) {
    digests++;
    if (message.getCount() == held.size() && message.getDigest() == digest()) return;
    String mine = "hold " + held.size() + " with digest " + Long.toUnsignedString(digest());
    String theirs = Long.toUnsignedString(message.getCount()) + " with digest " + Long.toUnsignedString(message.getDigest());
    throw new IllegalStateException(mine + ", the server says " + theirs);
  }
}
