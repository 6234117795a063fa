/** News of members on its way out: newest first, each a bounded number of times (SWIM §4.1). */
import type { MemberUpdate } from "../wire/messages.ts";

/** How often a node sends one update. */
export function retransmitLimit(mult: number, memberCount: number): number {
  return mult * Math.ceil(Math.log10(memberCount + 1));
}

/** Fixed part of an encoded update: tags, lengths, numbers, status. */
const UPDATE_OVERHEAD_BYTES = 40;

/** About as large as its encoding; texts are mostly ASCII. */
export function updateSizeBytes(update: MemberUpdate): number {
  let size = UPDATE_OVERHEAD_BYTES + update.nodeId.length + update.address.length + update.clusterId.length;
  size += (update.boot?.length ?? 0) + (update.bootBefore?.length ?? 0);
  size += update.region.length + update.zone.length + update.version.length + update.accuser.length + update.protocolVersions.length;
  for (const transport of update.transports) size += transport.length + 2;
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

/** At most one update a member; bounded by the members there are. */
export class BroadcastQueue {
  // Oldest first, as maps keep order of insertion; read from the end by way of `#newest`.
  readonly #items = new Map<string, QueuedUpdate>();
  #newest: QueuedUpdate[] = [];
  #isStale = false;

  get size(): number {
    return this.#items.size;
  }

  has(nodeId: string): boolean {
    return this.#items.has(nodeId);
  }

  /** In place of an older update of the same member. */
  add(update: MemberUpdate): void {
    this.#items.delete(update.nodeId);
    this.#items.set(update.nodeId, { update, sizeBytes: updateSizeBytes(update), sentCount: 0 });
    this.#isStale = true;
  }

  drop(nodeId: string): void {
    if (this.#items.delete(nodeId)) this.#isStale = true;
  }

  /**
   * Newest first, `first` before all of them and whether queued or not, as many as fit. Counts as sent once. An update that is larger than a message (of a node with many borders)
   * goes along in its turn, one in a message: it would else wait until nothing is newer, which may be never.
   */
  take(budget: { readonly maxBytes: number; readonly limit: number }, first?: MemberUpdate): readonly MemberUpdate[] {
    if (this.#items.size === 0) return first === undefined ? NOTHING : [first];
    return this.#collect(budget.maxBytes, first, budget.limit, NOTHING);
  }

  /**
   * For a response: what the asker did not say itself. Does not count as sent: half of the askers have just told us what we
   * have to tell, and the budget would be used up on those who know.
   */
  peek(maxBytes: number, said: readonly MemberUpdate[], first?: MemberUpdate): readonly MemberUpdate[] {
    if (this.#items.size === 0) return first === undefined ? NOTHING : [first];
    return this.#collect(maxBytes, first, undefined, said);
  }

  #collect(maxBytes: number, first: MemberUpdate | undefined, limit: number | undefined, said: readonly MemberUpdate[]): MemberUpdate[] {
    if (this.#isStale) this.#sort();
    const taken: MemberUpdate[] = [];
    let leftBytes = maxBytes;
    if (first !== undefined) {
      taken.push(first);
      leftBytes -= updateSizeBytes(first);
    }
    for (const item of this.#newest) {
      if (item.update === first || (said.length > 0 && wasSaid(said, item.update))) continue;
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

function wasSaid(said: readonly MemberUpdate[], update: MemberUpdate): boolean {
  for (const { nodeId, incarnation, status } of said) {
    if (nodeId === update.nodeId && incarnation === update.incarnation && status === update.status) return true;
  }
  return false;
}
