/** This node's version vector as links report it: which numbers moved since a link last looked (semantics.md, Replication). */

import { relationOf } from "../../catalog/entry/scope.ts";
import { ChangeLog } from "../../catalog/replica/change-log.ts";
import type { OriginLocation } from "../../catalog/replica/origins.ts";
import { BoundedMap } from "../../lib/bounded-map.ts";
import { type Hash64, mix32 } from "../../lib/hash64.ts";
import type { NodeRef, VectorEntry } from "../wire/messages.ts";

const NOTHING: Hash64 = { high: 0, low: 0 };

/**
 * Hash of a text and a number for sums that nodes compare: two lanes of FNV-1a over the text's UTF-16 code units, then over the
 * number's low 32 and high 21 bits, each lane finished as in MurmurHash3. Part of the protocol: never to be changed.
 */
// HOT: once per record of an origin that is compared.
export function hashOf(text: string, n: number): Hash64 {
  let high = 0x811c9dc5;
  let low = 0x9e3779b9;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    high = Math.imul(high ^ unit, 0x01000193);
    low = Math.imul(low ^ unit, 0x0100019d);
  }
  const upper = Math.floor(n / 2 ** 32);
  high = mix32(Math.imul(mix32(high ^ (n >>> 0)), 0x01000193) ^ upper);
  low = mix32(Math.imul(mix32(low ^ (n >>> 0)), 0x0100019d) ^ upper);
  return { high, low };
}

/** What a vector entry adds to the digest; a seq of 0 is the same as not being named. */
export function entryHash(id: string, seq: number): Hash64 {
  return seq === 0 ? NOTHING : hashOf(id, seq);
}

/** What an origin is called on a link that has heard its name. Part of the protocol: never to be changed. */
export function shortHash(id: string): number {
  return hashOf(id, 0).low;
}

/** Whose life an origin's id names. */
export function refOf(id: string): NodeRef {
  const at = id.lastIndexOf("/");
  return { nodeId: id.slice(0, at), generation: Number(id.slice(at + 1)) };
}

/** One origin's number as it was last noted. */
export interface VectorSlot {
  readonly id: string;
  /** Its `shortHash`. */
  readonly short: number;
  readonly nodeId: string;
  readonly generation: number;
  clusterId: string;
  region: string;
  /** 0: not known any more. */
  seq: number;
  floor: number;
  /** Ascending: when it last moved. */
  order: number;
}

/** Whom a vector is for. */
export interface VectorReader extends OriginLocation {
  readonly nodeId: string;
}

/** Origins that are gone and still told of as such. */
const MAX_GONE = 1000;

export class VersionVector {
  readonly #place: OriginLocation;
  readonly #marks = new Map<string, VectorSlot>();
  readonly #moves = new ChangeLog<VectorSlot>((mark) => mark.order);
  readonly #gone = new BoundedMap<string, true>(MAX_GONE, (id) => this.#forget(id));
  /** Marks by their short hash. */
  readonly #byShort = new Map<number, Set<VectorSlot>>();
  #order = 0;

  constructor(place: OriginLocation) {
    this.#place = place;
  }

  /** Number of the last move: what a link remembers to ask for what came after. */
  get order(): number {
    return this.#order;
  }

  find(id: string): VectorSlot | undefined {
    return this.#marks.get(id);
  }

  /** The origin of that short hash; undefined when there is none, or more than one. */
  findShort(hash: number): VectorSlot | undefined {
    return onlyOf(this.#byShort.get(hash) ?? []);
  }

  /**
   * The origin of that short hash that is of the cluster, or the one that is not; undefined when there is none, or more than one. So what another
   * cluster's nodes make up has the hash of none of ours.
   */
  findShortOf(hash: number, clusterId: string, isOfIt: boolean): VectorSlot | undefined {
    const all = this.#byShort.get(hash);
    return all && onlyOf([...all].filter((mark) => (mark.clusterId === clusterId) === isOfIt));
  }

  /** An origin's number may have moved. Returns whether it had. */
  note(of: Omit<VectorSlot, "seq" | "order" | "short">, seq: number): boolean {
    const { id, nodeId, generation, clusterId, region, floor } = of;
    let mark = this.#marks.get(id);
    if (mark === undefined) {
      if (seq === 0) return false;
      mark = { id, short: shortHash(id), nodeId, generation, clusterId, region, seq: 0, floor, order: 0 };
      this.#marks.set(id, mark);
      const alike = this.#byShort.get(mark.short);
      if (alike === undefined) this.#byShort.set(mark.short, new Set([mark]));
      else alike.add(mark);
    }
    mark.floor = floor;
    if (mark.clusterId !== clusterId) this.#rehome(mark, { clusterId, region });
    if (mark.seq === seq) return false;
    this.#gone.delete(id);
    this.#move(mark, seq);
    return true;
  }

  /** An origin is not known any more: it was forgotten, or has another name now. */
  drop(id: string): void {
    const mark = this.#marks.get(id);
    if (mark === undefined || mark.seq === 0) return;
    this.#move(mark, 0);
    this.#gone.set(id, true);
  }

  #forget(id: string): void {
    const gone = this.#marks.get(id);
    if (gone === undefined) return;
    this.#marks.delete(id);
    const alike = this.#byShort.get(gone.short);
    alike?.delete(gone);
    if (alike?.size === 0) this.#byShort.delete(gone.short);
    const { order } = gone;
    gone.order = -1;
    this.#moves.retire(order);
  }

  /** Its place was not known when it was noted first. */
  #rehome(mark: VectorSlot, { clusterId, region }: OriginLocation): void {
    mark.clusterId = clusterId;
    mark.region = region;
  }

  #move(mark: VectorSlot, seq: number): void {
    mark.seq = seq;
    const before = mark.order;
    this.#order += 1;
    mark.order = this.#order;
    if (before > 0) this.#moves.retire(before);
    this.#moves.append(this.#order, mark);
  }

  /** Visits marks that moved after `order`, oldest move first. */
  forEachSince(order: number, visit: (mark: VectorSlot) => void): void {
    this.#moves.forEachSince(order, (mark) => {
      visit(mark);
      return true;
    });
  }

  /** What a link to that node may be told, of what moved after `order`. */
  entriesSince(order: number, reader: VectorReader): VectorEntry[] {
    const entries: VectorEntry[] = [];
    this.forEachSince(order, (mark) => {
      if (!this.mayName(mark, reader)) return;
      const { nodeId, generation, seq, floor } = mark;
      entries.push({ nodeId, generation, seq, floor });
    });
    return entries;
  }

  /**
   * Whether a node may be told anything of an origin: never of its own cluster's by a node of another, which would make it believe
   * that it had everything; nothing across regions; nothing of an origin whose place is unknown but within the cluster.
   */
  mayName(origin: OriginLocation, reader: VectorReader): boolean {
    switch (relationOf(this.#place, reader)) {
      case "cluster":
        return true;
      case "region":
        return origin.clusterId !== "" && origin.clusterId !== reader.clusterId;
      case "remote":
        return false;
    }
  }
}

function onlyOf(marks: Iterable<VectorSlot>): VectorSlot | undefined {
  const [mark, ...others] = marks;
  return others.length === 0 ? mark : undefined;
}
