/** A careful watch: what it folded must come to the digest that the server says, at every END and bookmark. */
import { createHash } from "node:crypto";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Snapshot } from "../../gen/waymark/catalog/v1/watch_pb.js";
import { type CatalogWatchResponse, DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { type Client, connect } from "../../src/client/index.ts";
import { PATIENCE_MS, until } from "./until.ts";

/** A careful reader: what it folded must come to the digest that the server says, at every END and bookmark. */
export class ProvedWatch implements AsyncDisposable {
  /** Name to delta id. */
  readonly held: Map<string, string>;
  /** What was held at the last END or bookmark: who goes on at another server goes on from there, as what came since may be lost with this one. */
  #proved: ReadonlyMap<string, string>;
  portable = "";
  beginCount = 0;
  checkedCount = 0;
  /** What did not come to the digest; the watch ends there. */
  fault: string | undefined;
  /** Names that were removed, each time. */
  readonly removals: string[] = [];
  #staged = new Set<string>();
  /** Namespaces that the snapshot speaks for; empty for all. */
  #replaces: readonly string[] = [];
  /** By name; names are unlike each other in all namespaces. */
  readonly #namespaces: Map<string, string>;
  readonly #abort = new AbortController();
  readonly #client: Client;
  readonly #ended: Promise<void>;

  constructor(servers: readonly string[], from?: ProvedWatch) {
    this.held = new Map(from === undefined ? [] : from.#proved);
    this.#proved = new Map(this.held);
    this.#namespaces = new Map(from === undefined ? [] : from.#namespaces);
    this.portable = from?.portable ?? "";
    this.#client = connect({ servers, findServers: false });
    const request = { namespacePrefix: "svc", withDigest: true, bookmarkInterval: durationFromMs(1000), cursor: this.portable };
    const stream = this.#client.stream(DiscoveryService.method.catalogWatch, request, { signal: this.#abort.signal });
    this.#ended = this.#read(stream);
    // A node that is killed ends its streams.
    this.#ended.catch(() => {});
  }

  /** Resolves when the stream has ended, for whatever reason. */
  get ended(): Promise<void> {
    return this.#ended.catch(() => {});
  }

  get names(): readonly string[] {
    return [...this.held.keys()].toSorted();
  }

  /** Waits for an END or bookmark after now at which it holds just these. */
  async holds(names: readonly string[], withinMs = PATIENCE_MS): Promise<void> {
    const before = this.checkedCount;
    const wanted = names.toSorted().join();
    const isSo = () => this.checkedCount > before && this.names.join() === wanted;
    await Promise.race([until(`watch holds ${wanted}`, isSo, withinMs), this.#ended]);
    if (!isSo()) throw new Error(`the stream ended with ${this.names.join()}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort();
    await this.#ended.catch(() => {});
    this.#client.close();
  }

  #swap(): void {
    const isMeant = (name: string) => this.#replaces.length === 0 || this.#replaces.includes(this.#namespaces.get(name) ?? "");
    for (const name of this.held.keys()) if (!this.#staged.has(name) && isMeant(name)) this.held.delete(name);
  }

  async #read(stream: AsyncIterable<CatalogWatchResponse>): Promise<void> {
    for await (const message of stream) {
      if (message.snapshot === Snapshot.BEGIN) {
        this.beginCount += 1;
        this.#staged = new Set();
        this.#replaces = message.replaces;
      }
      for (const { payload, deltaId } of message.deltas) {
        if (payload.case === "entry") {
          const name = payload.value.key?.name ?? "";
          this.held.set(name, deltaId);
          this.#namespaces.set(name, payload.value.key?.namespace ?? "");
          this.#staged.add(name);
        } else if (payload.case === "removed") {
          this.removals.push(payload.value.name);
          this.held.delete(payload.value.name);
        }
      }
      if (message.snapshot === Snapshot.END) this.#swap();
      if (message.snapshot !== Snapshot.END && !message.bookmark) continue;
      const [count, digest] = [BigInt(this.held.size), digestOf(this.held.values())];
      if (count !== message.count || digest !== message.digest) {
        this.fault = `holds ${this.names.join()}, not what the server says`;
        throw new Error(this.fault);
      }
      this.portable = message.portableCursor;
      this.#proved = new Map(this.held);
      this.checkedCount += 1;
    }
  }
}

function digestOf(deltaIds: Iterable<string>): bigint {
  let sum = 0n;
  for (const id of deltaIds) sum += createHash("sha256").update(id).digest().readBigUInt64BE(0);
  return BigInt.asUintN(64, sum);
}
