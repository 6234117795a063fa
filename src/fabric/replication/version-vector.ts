/** This node's version vector, as links announce it, and the seqs that advanced since a link's last check (semantics.md, Replication). */

import { relationOf } from "../../catalog/entry/scope.ts";
import { ChangeLog } from "../../catalog/replica/change-log.ts";
import type { OriginLocation } from "../../catalog/replica/origins.ts";
import { BoundedMap } from "../../lib/bounded-map.ts";
import { type Hash64, mix32 } from "../../lib/hash64.ts";
import type { NodeRef, VectorEntry } from "../wire/messages.ts";

const NOTHING: Hash64 = { high: 0, low: 0 };

/**
 * Hash of a text and a number, for sums that nodes compare. It has two lanes of FNV-1a over the text's UTF-16 code units, then over the number's low
 * 32 and high 21 bits, and each lane is finalized as in MurmurHash3. The hash is part of the protocol and must never change.
 */
// HOT: runs once per record of an origin that is being compared.
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

/** The hash that a vector entry adds to the digest. An entry with seq 0 is treated as absent. */
export function entryHash(id: string, seq: number): Hash64 {
  return seq === 0 ? NOTHING : hashOf(id, seq);
}

/** Short name of an origin on a link where the full id was sent before. It is part of the protocol and must never change. */
export function shortHash(id: string): number {
  return hashOf(id, 0).low;
}

/** Parses an origin id into its node and generation. */
export function refOf(id: string): NodeRef {
  const at = id.lastIndexOf("/");
  return { nodeId: id.slice(0, at), generation: Number(id.slice(at + 1)) };
}

/** The seq of one origin at its last change in the vector. */
export interface VectorSlot {
  readonly id: string;
  /** Its `shortHash`. */
  readonly short: number;
  readonly nodeId: string;
  readonly generation: number;
  clusterId: string;
  region: string;
  /** 0 when the origin is no longer known. */
  seq: number;
  floor: number;
  /** Position of the slot's last change. Ascending. */
  order: number;
}

/** The node to which a vector is sent. */
export interface VectorReader extends OriginLocation {
  readonly nodeId: string;
}

/** Maximum number of removed origins that are still announced as removed. */
const MAX_GONE = 1000;

export class VersionVector {
  readonly #place: OriginLocation;
  readonly #slots = new Map<string, VectorSlot>();
  readonly #moves = new ChangeLog<VectorSlot>((slot) => slot.order);
  readonly #gone = new BoundedMap<string, true>(MAX_GONE, (id) => this.#forget(id));
  /** Slots by their short hash. */
  readonly #byShort = new Map<number, Set<VectorSlot>>();
  #order = 0;

  constructor(place: OriginLocation) {
    this.#place = place;
  }

  /** Position of the last change. A link stores it to request later changes. */
  get order(): number {
    return this.#order;
  }

  find(id: string): VectorSlot | undefined {
    return this.#slots.get(id);
  }

  /** The origin with that short hash. Undefined when there is no such origin or more than one. */
  findShort(hash: number): VectorSlot | undefined {
    return onlyOf(this.#byShort.get(hash) ?? []);
  }

  /**
   * The origin with that short hash in the given cluster, or outside it. Undefined when there is no such origin or more than one. Therefore, an
   * origin that a node of another cluster invents cannot collide with an origin of this node's cluster.
   */
  findShortOf(hash: number, clusterId: string, isOfIt: boolean): VectorSlot | undefined {
    const all = this.#byShort.get(hash);
    return all && onlyOf([...all].filter((slot) => (slot.clusterId === clusterId) === isOfIt));
  }

  /** Updates an origin's seq. Returns whether it changed. */
  note(of: Omit<VectorSlot, "seq" | "order" | "short">, seq: number): boolean {
    const { id, nodeId, generation, clusterId, region, floor } = of;
    let slot = this.#slots.get(id);
    if (slot === undefined) {
      if (seq === 0) return false;
      slot = { id, short: shortHash(id), nodeId, generation, clusterId, region, seq: 0, floor, order: 0 };
      this.#slots.set(id, slot);
      const alike = this.#byShort.get(slot.short);
      if (alike === undefined) this.#byShort.set(slot.short, new Set([slot]));
      else alike.add(slot);
    }
    slot.floor = floor;
    if (slot.clusterId !== clusterId) this.#rehome(slot, { clusterId, region });
    if (slot.seq === seq) return false;
    this.#gone.delete(id);
    this.#move(slot, seq);
    return true;
  }

  /** Removes an origin that was forgotten or now has another id. */
  drop(id: string): void {
    const slot = this.#slots.get(id);
    if (slot === undefined || slot.seq === 0) return;
    this.#move(slot, 0);
    this.#gone.set(id, true);
  }

  #forget(id: string): void {
    const gone = this.#slots.get(id);
    if (gone === undefined) return;
    this.#slots.delete(id);
    const alike = this.#byShort.get(gone.short);
    alike?.delete(gone);
    if (alike?.size === 0) this.#byShort.delete(gone.short);
    const { order } = gone;
    gone.order = -1;
    this.#moves.retire(order);
  }

  /** Sets the location of an origin whose location was unknown when it was first registered. */
  #rehome(slot: VectorSlot, { clusterId, region }: OriginLocation): void {
    slot.clusterId = clusterId;
    slot.region = region;
  }

  #move(slot: VectorSlot, seq: number): void {
    slot.seq = seq;
    const before = slot.order;
    this.#order += 1;
    slot.order = this.#order;
    if (before > 0) this.#moves.retire(before);
    this.#moves.append(this.#order, slot);
  }

  /** Visits slots that changed after `order`, starting with the oldest change. */
  forEachSince(order: number, visit: (slot: VectorSlot) => void): void {
    this.#moves.forEachSince(order, (slot) => {
      visit(slot);
      return true;
    });
  }

  /** Returns the entries that changed after `order` and that a link to this node may carry. */
  entriesSince(order: number, reader: VectorReader): VectorEntry[] {
    const entries: VectorEntry[] = [];
    this.forEachSince(order, (slot) => {
      if (!this.mayName(slot, reader)) return;
      const { nodeId, generation, seq, floor } = slot;
      entries.push({ nodeId, generation, seq, floor });
    });
    return entries;
  }

  /**
   * Whether any information about an origin may be sent to a node. Nodes of another cluster never report about the reader's own cluster, because the
   * reader would assume that it has everything. Nothing is sent to other regions. An origin with unknown location is reported only within the
   * cluster.
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

function onlyOf(slots: Iterable<VectorSlot>): VectorSlot | undefined {
  const [slot, ...others] = slots;
  return others.length === 0 ? slot : undefined;
}
