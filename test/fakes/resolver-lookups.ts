/**
 * The lookups of P13 at the machine of a resolver, on virtual time: names of 10 endpoints, 10 names a namespace, of which each second as many are asked for as
 * there are names, without a kind. A tenth of the endpoints changes in a minute. Its server answers a fetch after some ms, and tells its watch what changes.
 */
import { type KeyText, KIND, keyText } from "../../src/catalog/record/record.ts";
import { WaymarkError } from "../../src/lib/errors.ts";
import { Rng } from "../../src/lib/rng.ts";
import { Model } from "./model.ts";
import { ResolverWorld } from "./resolver-world.ts";
import { Zipf } from "./zipf.ts";

const ENDPOINTS = 10;
const NAMES_A_NAMESPACE = 10;
/** What is asked for in a step is asked for at its beginning; what is fetched for it is here at its end. */
const STEP_MS = 5;
const CHANGED_PART = 10;
const SECOND_MS = 1000;
const MINUTE_MS = 60_000;
/** The default bound of entries is that of ten times the names of P13, and the default of namespaces that are followed 256. */
const ROOMY = 10;
const WATCHES_A_NAME = 0.0256;
/** Longer than a fetched answer is kept, however it is asked for: one ttl as fresh, two as stale. */
const KEPT_MS = 50_000;
/** Entries that the server takes at a time. */
const COMMITTED = 1000;

interface LookupsOptions {
  readonly names: number;
  /** The number of names for whose endpoints the resolver has room. */
  readonly room: number;
  readonly maxWatches: number;
  readonly seed: number;
}

/** The naive model of a server looks through all that there is for each entry. Here nobody asks it. */
class UnaskedModel extends Model {
  override apply(): void {}
}

class ResolverLookups {
  readonly #names: number;
  readonly #world: ResolverWorld;
  readonly #rng: Rng;
  readonly #zipf: Zipf;
  /** Names by rank, so that those that are liked most have nothing else in common. */
  readonly #order: readonly number[];
  #variant = 0;
  /** Lookups and changes that are due, and parts of them. */
  readonly #due = { asks: 0, changes: 0 };
  #asks = 0;
  #hits = 0;

  constructor({ names, room, maxWatches, seed }: LookupsOptions) {
    this.#names = names;
    this.#rng = new Rng(seed);
    this.#zipf = new Zipf(names, this.#rng);
    this.#order = shuffled(names, this.#rng);
    this.#world = new ResolverWorld(["a"], { namespaces: [], maxEntries: room * ENDPOINTS, maxBytes: 2 ** 31, maxWatches });
    const { node } = this.#world.server("a");
    node.model = new UnaskedModel();
    for (let i = 0; i < names * ENDPOINTS; i++) {
      node.put(keyOf(i), 0, this.#world.now);
      if (i % COMMITTED === COMMITTED - 1) node.commit(this.#world.now);
    }
    this.#world.run(2 * SECOND_MS);
  }

  /** The share of lookups that the most asked names get. */
  share(names: number): number {
    return this.#zipf.share(names);
  }

  /** Asks once for each name. Returns the share of hits. */
  scan(): number {
    let next = 0;
    return this.#run(SECOND_MS, () => next++ % this.#names);
  }

  /** Asks for names by how much they are liked, for so long. Returns the share of hits: of answers that waited for nobody. */
  ask(ms: number): number {
    return this.#run(ms, () => this.#order[this.#zipf.draw()] ?? 0);
  }

  #run(ms: number, pick: () => number): number {
    [this.#asks, this.#hits] = [0, 0];
    for (let passedMs = 0; passedMs < ms; passedMs += STEP_MS) {
      this.#due.asks += (this.#names * STEP_MS) / SECOND_MS;
      for (; this.#due.asks >= 1; this.#due.asks--) this.#askFor(pick());
      this.#change();
      this.#world.run(STEP_MS, STEP_MS);
    }
    return this.#hits / this.#asks;
  }

  #askFor(name: number): void {
    this.#asks += 1;
    try {
      const answer = this.#world.port(nameOf(name), {}, () => {});
      if (answer !== undefined) this.#hits += 1;
    } catch (error) {
      // Refused: too many are fetched. Who is refused has no answer.
      if (!(error instanceof WaymarkError)) throw error;
    }
  }

  #change(): void {
    const endpoints = this.#names * ENDPOINTS;
    this.#due.changes += (endpoints / CHANGED_PART) * (STEP_MS / MINUTE_MS);
    if (this.#due.changes < 1) return;
    const { node } = this.#world.server("a");
    for (; this.#due.changes >= 1; this.#due.changes--) node.put(keyOf(this.#rng.int(endpoints)), ++this.#variant, this.#world.now);
    node.commit(this.#world.now);
  }
}

/** P13, of a resolver with room for all names, and of one with room for a tenth of them. */
export interface HitRates {
  /** After one pass, with room for all. */
  readonly ofAll: number;
  /** With room for a tenth: the part that they are of what the most asked tenth gets. */
  readonly ofIdeal: number;
  /** The points that a scan over all names costs. */
  readonly scanPoints: number;
}

/** `ms`: how long each share is counted where room is short. */
export function hitRates({ names, seed, ms }: { readonly names: number; readonly seed: number; readonly ms: number }): HitRates {
  const whole = new ResolverLookups({ names, room: ROOMY * names, maxWatches: Math.ceil(names * WATCHES_A_NAME), seed });
  whole.scan();
  const ofAll = whole.ask(KEPT_MS);
  const part = new ResolverLookups({ names, room: names / 10, maxWatches: Math.ceil(names * WATCHES_A_NAME), seed });
  part.scan();
  part.ask(ms);
  const before = part.ask(ms);
  part.scan();
  const after = part.ask(ms / 2);
  return { ofAll, ofIdeal: before / part.share(names / 10), scanPoints: 100 * (before - after) };
}

function nameOf(name: number) {
  return { namespace: `svc.ns${Math.floor(name / NAMES_A_NAMESPACE)}`, name: `service-${name}` };
}

/** Of an endpoint, by its number. */
function keyOf(endpoint: number): KeyText {
  const { namespace, name } = nameOf(Math.floor(endpoint / ENDPOINTS));
  return keyText({ kind: KIND.SERVICE, namespace, name, instanceId: `${endpoint % ENDPOINTS}`, clusterId: "c1" });
}

function shuffled(count: number, rng: Rng): readonly number[] {
  const all = Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const other = rng.int(i + 1);
    [all[i], all[other]] = [all[other] ?? 0, all[i] ?? 0];
  }
  return all;
}
