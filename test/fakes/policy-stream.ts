/** A watch on a node's inside, folded as a client folds it, that fails as soon as it is told of what its viewer may not know. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { create, fromBinary } from "@bufbuild/protobuf";
import type { EntryKey } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { Snapshot } from "../../gen/waymark/catalog/v1/watch_pb.js";
import {
  type CatalogWatchRequest,
  CatalogWatchRequestSchema,
  type CatalogWatchResponse,
  CatalogWatchResponseSchema,
} from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { WaymarkError } from "../../src/lib/errors.ts";
import type { Time } from "../../src/lib/machine.ts";
import type { Caller } from "../../src/policy/identity/caller.ts";
import type { ServiceDefinition, StreamSource } from "../../src/services/service.ts";

export function keyText(key: EntryKey | undefined): string {
  return key === undefined ? "" : [key.namespace, key.name, key.instanceId].join("|");
}

export interface StreamFilter {
  readonly namespace: string;
  readonly namespacePrefix: string;
  readonly tags: readonly string[];
}

/** What a client that saved a cursor holds. */
interface Saved {
  readonly cursor: string;
  readonly held: ReadonlyMap<string, string>;
  readonly tick: number;
}

const MAX_SAVED = 8;

/** Who could see what when. */
export class Sightings {
  readonly #last = new Map<string, Map<string, number>>();
  tick = 0;

  /** What the viewer sees at this tick. */
  note(viewer: Caller, keys: Iterable<string>): void {
    const last = this.#of(viewer);
    for (const key of keys) last.set(key, this.tick);
  }

  sawSince(viewer: Caller, key: string, tick: number): boolean {
    return (this.#of(viewer).get(key) ?? -1) >= tick;
  }

  keysOf(viewer: Caller): readonly string[] {
    return [...this.#of(viewer).keys()];
  }

  #of({ tenant, cluster }: Caller): Map<string, number> {
    const name = `${tenant}@${cluster}`;
    const known = this.#last.get(name) ?? new Map<string, number>();
    this.#last.set(name, known);
    return known;
  }
}

export class PolicyStream {
  readonly viewer: Caller;
  readonly filter: StreamFilter;
  readonly #open: (request: CatalogWatchRequest) => StreamSource;
  #source: StreamSource | undefined;
  #held = new Map<string, string>();
  /** When its place was: it may be told of what its viewer saw at some time since. */
  #since = 0;
  #staged: { readonly replaces: readonly string[]; readonly seen: Set<string> } | undefined;
  readonly #saved: Saved[] = [];
  settledCount = 0;

  readonly #seen: Sightings;

  constructor(
    service: ServiceDefinition,
    viewer: Caller,
    filter: StreamFilter,
    ports: { readonly now: () => Time; readonly seen: Sightings },
  ) {
    const { now } = ports;
    this.#seen = ports.seen;
    this.viewer = viewer;
    this.filter = filter;
    const handler = service.handlers["catalogWatch"];
    assert(handler?.kind === "server_streaming");
    this.#open = (request) => handler.open(request as never, { caller: viewer, time: now(), requestId: "" });
  }

  get isOpen(): boolean {
    return this.#source !== undefined;
  }

  get held(): ReadonlyMap<string, string> {
    return this.#held;
  }

  get savedCount(): number {
    return this.#saved.length;
  }

  /** Opens anew, or from something saved. Returns whether it was let in. */
  open(from: number | undefined): boolean {
    this.close();
    const saved = from === undefined ? undefined : this.#saved[from];
    this.#held = new Map(saved?.held);
    this.#since = saved?.tick ?? this.#seen.tick;
    this.#staged = undefined;
    const withDigest = this.filter.tags.length === 0;
    const request = create(CatalogWatchRequestSchema, {
      ...this.filter,
      tags: [...this.filter.tags],
      withDigest,
      cursor: saved?.cursor ?? "",
    });
    try {
      this.#source = this.#open(request);
    } catch (error) {
      assert(error instanceof WaymarkError && error.reason === "discovery_access_denied", String(error));
      return false;
    }
    this.#source.attach(
      () => {},
      () => {},
    );
    return true;
  }

  close(): void {
    this.#source?.close();
    this.#source = undefined;
  }

  #couldKnow(key: string): boolean {
    return this.#held.has(key) || this.#seen.sawSince(this.viewer, key, this.#since);
  }

  /** Takes at most so many messages; returns how many there were. `sees` is asked of each namespace that is named. */
  pull(time: Time, maxCount: number, sees: (namespace: string) => boolean): number {
    for (let n = 0; n < maxCount; n++) {
      const bytes = this.#source?.pull(time);
      if (bytes === undefined) return n;
      this.#fold(fromBinary(CatalogWatchResponseSchema, bytes), sees);
    }
    return maxCount;
  }

  #fold(message: CatalogWatchResponse, sees: (namespace: string) => boolean): void {
    if (message.snapshot === Snapshot.BEGIN) {
      this.#staged = { replaces: message.replaces, seen: new Set() };
      // What it held may be named: that it is gone.
      for (const namespace of message.replaces) {
        const isKnown = this.#seen.keysOf(this.viewer).some((key) => key.startsWith(`${namespace}|`) && this.#couldKnow(key));
        assert(isKnown || sees(namespace), `a scoped snapshot names ${namespace}, which its viewer never saw`);
      }
    }
    for (const { payload, deltaId } of message.deltas) {
      assert(payload.case === "entry" || payload.case === "removed");
      const key = payload.case === "entry" ? payload.value.key : payload.value;
      const text = keyText(key);
      assert(sees(key?.namespace ?? ""), `told of ${text}, which is hidden now`);
      assert(this.#couldKnow(text), `told of ${text} (${payload.case}), which its viewer could not see since it began`);
      if (payload.case === "removed") this.#held.delete(text);
      else {
        this.#held.set(text, deltaId);
        this.#staged?.seen.add(text);
      }
    }
    if (message.snapshot === Snapshot.END) this.#end();
    if (this.#staged !== undefined) return;
    if (message.snapshot === Snapshot.END || message.bookmark) this.#settled(message);
    for (const cursor of [message.cursor, message.portableCursor]) if (cursor !== "") this.#save(cursor);
  }

  #end(): void {
    const staged = this.#staged;
    this.#staged = undefined;
    if (staged === undefined) return;
    const isCovered = (key: string) => staged.replaces.length === 0 || staged.replaces.includes(key.split("|")[0] ?? "");
    for (const key of this.#held.keys()) if (isCovered(key) && !staged.seen.has(key)) this.#held.delete(key);
  }

  /** Whether count and digest say what is held. */
  digestFault(message: CatalogWatchResponse): string {
    let sum = 0n;
    for (const id of this.#held.values()) sum += createHash("sha256").update(id).digest().readBigUInt64BE();
    if (message.count !== BigInt(this.#held.size)) return `count ${message.count}, held ${this.#held.size}`;
    return message.digest === BigInt.asUintN(64, sum) ? "" : "digest differs";
  }

  lastSettled: CatalogWatchResponse | undefined;

  #settled(message: CatalogWatchResponse): void {
    this.settledCount += 1;
    this.lastSettled = message;
    // At every moment, also while a policy is being put in force.
    if (this.filter.tags.length === 0) assert.equal(this.digestFault(message), "");
  }

  #save(cursor: string): void {
    if (this.#saved.length >= MAX_SAVED) this.#saved.splice(0, 1);
    this.#saved.push({ cursor, held: new Map(this.#held), tick: this.#seen.tick });
  }
}
