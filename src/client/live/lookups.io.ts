/** `resolve` without a watch: queries a name, caches the answer for a short time, and chooses one of the entries. */
import { type Entry, EntryKind } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { isCalledAtNode } from "../../consumer/hosting.ts";
import type { Time } from "../../lib/machine.ts";
import { Query } from "../query.io.ts";
import { RequestError } from "../request-error.ts";
import { type Choice, chosenFrom, kindIn, NODES_NAMESPACE, type ResolveOptions } from "./choice.ts";
import type { CountsOfName } from "./live-entries.ts";
import { LookupCache, type LookupName } from "./lookup-cache.ts";
import type { WatchingCalls } from "./watch.io.ts";

/** Maximum number of names in the cache. The least recently used name is dropped first. */
const MAX_NAMES = 1000;
/** Maximum number of names in a request. */
const MAX_ASKED_NAMES = 1000;

export class OneOffLookups {
  readonly #client: WatchingCalls;
  readonly #lookups: LookupCache;
  /** Queries in progress, one per name. */
  readonly #asking = new Map<string, Promise<void>>();

  constructor(client: WatchingCalls, ttlMs: number) {
    this.#client = client;
    this.#lookups = new LookupCache({ ttlMs, maxNames: MAX_NAMES, time: now() });
  }

  async resolve(namespace: string, name: string, options: ResolveOptions): Promise<Choice | undefined> {
    const wanted = { namespace, name, kind: kindIn(options) };
    const state = this.#lookups.state(wanted, now());
    // A failed background refresh is retried by the next lookup.
    if (state === "stale") this.#ask(wanted).catch(() => {});
    if (state === "miss") await this.#ask(wanted);
    const group = this.#lookups.found(wanted);
    const nodesOf = (nodeId: string) => this.#lookups.nodesOf(wanted, nodeId);
    return group && chosenFrom(group, options, { place: this.#client.place, now, nodesOf });
  }

  stats(): readonly CountsOfName[] {
    return this.#lookups.stats();
  }

  #ask(name: LookupName): Promise<void> {
    const id = JSON.stringify(name);
    let asking = this.#asking.get(id);
    if (asking === undefined) {
      asking = this.#fetch(name).finally(() => this.#asking.delete(id));
      this.#asking.set(id, asking);
    }
    return asking;
  }

  async #fetch(name: LookupName): Promise<void> {
    const items: Entry[] = [];
    const nodes: Entry[] = [];
    try {
      for await (const entry of new Query(this.#client, { namespace: name.namespace, names: [name.name], kinds: [name.kind] }))
        items.push(entry);
      const nodeIds = new Set(items.filter(isCalledAtNode).map(({ nodeId }) => nodeId));
      const names = [...nodeIds].slice(0, MAX_ASKED_NAMES);
      const request = { namespace: NODES_NAMESPACE, names, kinds: [EntryKind.NODE] };
      if (names.length > 0) for await (const node of new Query(this.#client, request)) nodes.push(node);
    } catch (error) {
      // Known entries are kept while no server answers.
      if (error instanceof RequestError && error.isAway && this.#lookups.isKnown(name)) return;
      throw error;
    }
    this.#lookups.take(name, { items, nodes }, now());
  }
}

function now(): Time {
  return { monoMs: performance.now(), wallMs: Date.now() };
}
