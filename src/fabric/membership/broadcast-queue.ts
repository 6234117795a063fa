/** The queue of outgoing membership updates: the newest is sent first, and each is sent a limited number of times (SWIM §4.1). */
import type { MemberUpdate } from "../wire/messages.ts";

/** Returns how often a node sends each update. */
export function retransmitLimit(mult: number, memberCount: number): number {
  return mult * Math.ceil(Math.log10(memberCount + 1));
}

/** Approximate size of the fixed part of an encoded update: tags, lengths, numbers, status. */
const UPDATE_OVERHEAD_BYTES = 40;

/** Approximate size of the facts about a certificate, without their lists: a source, an issuer, a root and a time. */
const SECURITY_OVERHEAD_BYTES = 64;

/** Returns the approximate encoded size of an update. Most texts are ASCII. */
export function updateSizeBytes(update: MemberUpdate): number {
  let size = UPDATE_OVERHEAD_BYTES + update.nodeId.length + update.address.length + update.clusterId.length;
  size +=
    (update.boot?.length ?? 0) + (update.bootBefore?.length ?? 0) + (update.controlStore?.length ?? 0) + (update.configDigest?.length ?? 0);
  size += update.region.length + update.zone.length + update.version.length + update.accuser.length + update.protocolVersions.length;
  size += lengthOf([...update.transports, ...(update.drain?.urls ?? [])]);
  if (update.security !== undefined) size += SECURITY_OVERHEAD_BYTES + lengthOf(update.security.roots);
  for (const role of update.roles) size += role.length + 2;
  for (const [key, value] of Object.entries(update.labels)) size += key.length + value.length + 6;
  for (const { region } of update.borders ?? []) size += region.length + 7;
  for (const { clusterId, region, exports, reached = [] } of update.heardRules ?? []) {
    size += clusterId.length + region.length + 12 + lengthOf(exports);
    for (const { regions, patterns } of reached) size += 6 + lengthOf(regions) + lengthOf(patterns);
  }
  return size;
}

function lengthOf(texts: readonly string[]): number {
  return texts.reduce((sum, text) => sum + text.length + 2, 0);
}

interface QueuedUpdate {
  readonly update: MemberUpdate;
  readonly sizeBytes: number;
  sentCount: number;
}

const NOTHING: readonly MemberUpdate[] = [];

/** Holds at most one update per member, so its size is limited by the number of members. */
export class BroadcastQueue {
  // Ordered from oldest to newest, because maps keep the insertion order. Read from the end through `#newest`.
  readonly #items = new Map<string, QueuedUpdate>();
  #newest: QueuedUpdate[] = [];
  #isStale = false;

  get size(): number {
    return this.#items.size;
  }

  has(nodeId: string): boolean {
    return this.#items.has(nodeId);
  }

  /** Adds an update and removes an older update of the same member. */
  add(update: MemberUpdate): void {
    this.#items.delete(update.nodeId);
    this.#items.set(update.nodeId, { update, sizeBytes: updateSizeBytes(update), sentCount: 0 });
    this.#isStale = true;
  }

  drop(nodeId: string): void {
    if (this.#items.delete(nodeId)) this.#isStale = true;
  }

  /**
   * Returns as many updates as fit, newest first, and counts each as sent once. `first` precedes all others, even if it is not queued. An update that
   * is larger than a message (from a node with many borders) is sent when its turn comes, at most one per message. Otherwise, it would wait until the
   * queue contains no newer update, which may never happen.
   */
  take(budget: { readonly maxBytes: number; readonly limit: number }, first?: MemberUpdate): readonly MemberUpdate[] {
    if (this.#items.size === 0) return first === undefined ? NOTHING : [first];
    return this.#collect(budget.maxBytes, first, budget.limit, NOTHING);
  }

  /**
   * Selects updates for a response, except those that the caller itself sent. The selected updates are not counted as sent: half of the callers have
   * just sent the same updates, and the limit would be used up on nodes that have them already.
   */
  peek(maxBytes: number, received: readonly MemberUpdate[], first?: MemberUpdate): readonly MemberUpdate[] {
    if (this.#items.size === 0) return first === undefined ? NOTHING : [first];
    return this.#collect(maxBytes, first, undefined, received);
  }

  #collect(
    maxBytes: number,
    first: MemberUpdate | undefined,
    limit: number | undefined,
    received: readonly MemberUpdate[],
  ): MemberUpdate[] {
    if (this.#isStale) this.#sort();
    const taken: MemberUpdate[] = [];
    let leftBytes = maxBytes;
    if (first !== undefined) {
      taken.push(first);
      leftBytes -= updateSizeBytes(first);
    }
    for (const item of this.#newest) {
      if (item.update === first || (received.length > 0 && wasReceived(received, item.update))) continue;
      const hasTurn = item.sizeBytes > maxBytes && leftBytes > 0;
      if (item.sizeBytes > leftBytes && !hasTurn && taken.length > 0) break;
      taken.push(item.update);
      leftBytes -= item.sizeBytes;
      if (limit === undefined) continue;
      item.sentCount += 1;
      if (item.sentCount < limit) continue;
      this.#items.delete(item.update.nodeId);
      this.#isStale = true;
    }
    return taken;
  }

  #sort(): void {
    this.#newest = [...this.#items.values()].toReversed();
    this.#isStale = false;
  }
}

function wasReceived(received: readonly MemberUpdate[], update: MemberUpdate): boolean {
  for (const { nodeId, incarnation, status } of received) {
    if (nodeId === update.nodeId && incarnation === update.incarnation && status === update.status) return true;
  }
  return false;
}
