/** `resolve` without a watch: asks for a name, keeps the answer for a short time, and chooses among it. */
import type { Time } from "../../lib/machine.ts";
import { Query } from "../query.io.ts";
import { RequestError } from "../request-error.ts";
import { type Choice, chosenFrom, kindIn, type ResolveOptions } from "./choice.ts";
import type { CountsOfName } from "./live-entries.ts";
import { type LookupName, Lookups } from "./lookups.ts";
import type { WatchingCalls } from "./watch.io.ts";

/** Most names that are kept; the one used longest ago goes first. */
const MAX_NAMES = 1000;

export class OneOffLookups {
  readonly #client: WatchingCalls;
  readonly #lookups: Lookups;
  /** Questions under way, by name: one each. */
  readonly #asking = new Map<string, Promise<void>>();

  constructor(client: WatchingCalls, ttlMs: number) {
    this.#client = client;
    this.#lookups = new Lookups({ ttlMs, maxNames: MAX_NAMES, time: now() });
  }

  async resolve(namespace: string, name: string, options: ResolveOptions): Promise<Choice | undefined> {
    const wanted = { namespace, name, kind: kindIn(options) };
    const state = this.#lookups.state(wanted, now());
    // What fails in the background is tried again by the next lookup.
    if (state === "stale") this.#ask(wanted).catch(() => {});
    if (state === "miss") await this.#ask(wanted);
    const group = this.#lookups.found(wanted);
    return group && chosenFrom(group, options, { place: this.#client.place, now });
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
    const items = [];
    try {
      for await (const entry of new Query(this.#client, { namespace: name.namespace, names: [name.name], kinds: [name.kind] }))
        items.push(entry);
    } catch (error) {
      // Nothing that is known ends because no server answers.
      if (error instanceof RequestError && error.isAway && this.#lookups.isKnown(name)) return;
      throw error;
    }
    this.#lookups.take(name, items, now());
  }
}

function now(): Time {
  return { monoMs: performance.now(), wallMs: Date.now() };
}
