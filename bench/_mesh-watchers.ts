/** What was written to a mesh, and one watch at each node that is held against it: how late, and whether whole. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Snapshot } from "../gen/waymark/catalog/v1/watch_pb.js";
import { CatalogWatchRequestSchema, CatalogWatchResponseSchema } from "../gen/waymark/discovery/v1/discovery_pb.js";
import type { Node } from "./_processes.ts";
import { Wire } from "./_wire.ts";
import { keyOf, NAMESPACE, PATH } from "./_work.ts";

/** Version of an entry that was taken out: numbers are never used again, so nothing comes after it. */
const ENDED = Number.MAX_SAFE_INTEGER;

/** A write, and how many watches have yet to show it. */
interface Stamp {
  readonly version: number;
  /** When the schedule had it, whether or not it could be sent then. */
  readonly dueMs: number;
  left: number;
}

interface Watch {
  readonly wire: Wire;
  /** Entry to version, as told. */
  readonly held: Map<string, number>;
  /** Not yet listed again, while a snapshot comes. */
  unlisted: Set<string> | undefined;
}

function textOf(k: number): string {
  const { name, instanceId } = keyOf(k);
  return `${name}/${instanceId}`;
}

/** The entries there should be: number to version. */
export class Written {
  readonly entries = new Map<number, number>();

  put(numbers: Iterable<number>, version: number): void {
    for (const k of numbers) this.entries.set(k, version);
  }

  end(numbers: Iterable<number>): void {
    for (const k of numbers) this.entries.delete(k);
  }
}

export class MeshWatchers {
  /** From due to a watch's delta, one a write and watch. */
  readonly tookMs: number[] = [];
  /** From due to the last watch's delta, one a write. */
  readonly lastMs: number[] = [];
  readonly #watches: Watch[] = [];
  readonly #stamps = new Map<string, Stamp[]>();
  snapshots = 0;

  /** Opens one at each node and waits for the snapshots. */
  async open(nodes: readonly Node[], tags: readonly string[]): Promise<void> {
    const request = toBinary(CatalogWatchRequestSchema, create(CatalogWatchRequestSchema, { namespace: NAMESPACE, tags: [...tags] }));
    const greeted = nodes.map(async (node) => {
      const watch: Watch = { wire: await Wire.open(node.grpc), held: new Map(), unlisted: undefined };
      this.#watches.push(watch);
      return new Promise<void>((resolve, reject) => {
        const stream = watch.wire.stream(PATH.watch, {
          onMessage: (bytes, start, end) => {
            if (this.#heard(watch, bytes.subarray(start, end))) resolve();
          },
          onEnd: (why) => reject(new Error(`a watch ended: ${why}`)),
        });
        stream.send(request);
        stream.end();
      });
    });
    await Promise.all(greeted);
  }

  /** Before the entry is sent with this version, which was due at `dueMs` of `performance.now()`. */
  due(k: number, version: number, dueMs: number): void {
    const name = textOf(k);
    const stamps = this.#stamps.get(name) ?? [];
    stamps.push({ version, dueMs, left: this.#watches.length });
    this.#stamps.set(name, stamps);
  }

  /** Before the entry is taken out. */
  dueToEnd(k: number, dueMs: number): void {
    this.due(k, ENDED, dueMs);
  }

  /** Writes that some watch has not shown, neither themselves nor by what replaced them. */
  get missing(): number {
    return [...this.#stamps.values()].reduce((sum, stamps) => sum + stamps.length, 0);
  }

  /** Entries, all watches together, that are not held as written: absent, there though ended, or of another version. */
  wrong({ entries }: Written, isWatched: (k: number) => boolean = () => true): number {
    const wanted = new Map([...entries].filter(([k]) => isWatched(k)).map(([k, version]) => [textOf(k), version]));
    let wrong = 0;
    for (const { held } of this.#watches) {
      for (const [name, version] of wanted) if (held.get(name) !== version) wrong += 1;
      for (const name of held.keys()) if (!wanted.has(name)) wrong += 1;
    }
    return wrong;
  }

  close(): void {
    for (const { wire } of this.#watches) wire.close();
  }

  /** Returns whether the snapshot is complete. */
  #heard(watch: Watch, bytes: Uint8Array): boolean {
    const message = fromBinary(CatalogWatchResponseSchema, bytes);
    const nowMs = performance.now();
    if (message.snapshot === Snapshot.BEGIN) watch.unlisted = new Set(watch.held.keys());
    for (const { payload } of message.deltas) {
      if (payload.case === "removed") this.#ended(watch, `${payload.value.name}/${payload.value.instanceId}`, nowMs);
      if (payload.case !== "entry") continue;
      const { key, metadata } = payload.value;
      const name = `${key?.name}/${key?.instanceId}`;
      const [before, version] = [watch.held.get(name) ?? -1, Number(metadata["v"] ?? 0)];
      watch.held.set(name, version);
      watch.unlisted?.delete(name);
      this.#settle(name, before, version, nowMs);
    }
    if (message.snapshot !== Snapshot.END) return false;
    for (const name of watch.unlisted ?? []) this.#ended(watch, name, nowMs);
    watch.unlisted = undefined;
    this.snapshots += 1;
    return true;
  }

  #ended(watch: Watch, name: string, nowMs: number): void {
    const before = watch.held.get(name);
    if (before === undefined) return;
    watch.held.delete(name);
    this.#settle(name, before, ENDED, nowMs);
  }

  /** A watch may skip what was replaced before it was sent (one delta a key and message): the later one shows both. */
  #settle(name: string, before: number, version: number, nowMs: number): void {
    const stamps = this.#stamps.get(name);
    if (stamps === undefined) return;
    for (const stamp of stamps) {
      if (stamp.version <= before || stamp.version > version) continue;
      this.tookMs.push(nowMs - stamp.dueMs);
      stamp.left -= 1;
      if (stamp.left === 0) this.lastMs.push(nowMs - stamp.dueMs);
    }
    const open = stamps.filter(({ left }) => left > 0);
    if (open.length === 0) this.#stamps.delete(name);
    else this.#stamps.set(name, open);
  }
}
