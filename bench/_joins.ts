/**
 * Endpoints that join and leave at a steady rate: the same ones at the same times for each peer. Who joins is new and of a service that is drawn, so the counts of services wander. If those
 * who left came back instead, the counts would return to where they were, and a summary would hardly ever change.
 */
import { Rng } from "../src/lib/rng.ts";
import { sleep } from "./_mesh.ts";
import { fail } from "./_work.ts";

/** What joins and leaves. */
export interface Joining {
  readonly join: (k: number) => Promise<unknown>;
  readonly leave: (k: number) => Promise<unknown>;
}

export interface Pace {
  readonly perSecond: number;
  readonly seconds: number;
}

export interface Played {
  /** How many joined or left. */
  readonly count: number;
  /** From the first until the last was taken. */
  readonly tookSeconds: number;
}

/** Calls under way at a time; what is due meanwhile waits. */
const MAX_OPEN = 64;

/** Endpoints 0 up to `endpoints` are there when it begins, in turn of each service: `k` is of service `k % services`. */
export class ComingAndGoing {
  readonly #rng = new Rng("joins");
  readonly #joining: Joining;
  readonly #present: number[];
  /** Of each service, its lowest number that nobody has had. */
  readonly #unused: number[];

  constructor(joining: Joining, { endpoints, services }: { readonly endpoints: number; readonly services: number }) {
    this.#joining = joining;
    this.#present = Array.from({ length: endpoints }, (_, k) => k);
    this.#unused = Array.from({ length: services }, (_, service) => service + services * Math.ceil((endpoints - service) / services));
  }

  /** Those that are there now. */
  get present(): readonly number[] {
    return this.#present;
  }

  /** Half of them leave and half join, each drawn at random. Rejects where a call does. */
  eachForItself(pace: Pace): Promise<Played> {
    const { length: services } = this.#unused;
    return atPace(pace, (i) =>
      i % 2 === 0 ? this.#leaves(this.#taken(this.#rng.int(this.#present.length))) : this.#joins(this.#rng.int(services)),
    );
  }

  /** One service after the other, drawn at random, loses half of its endpoints or gets half as many more, in turn. No service twice. */
  serviceByService(pace: Pace): Promise<Played> {
    const { length: services } = this.#unused;
    const members = Map.groupBy(this.#present, (k) => k % services);
    const drawn = [...members].map(([service, numbers]) => ({ service, numbers, at: this.#rng.next() })).toSorted((a, b) => a.at - b.at);
    const due: (() => Promise<void>)[] = drawn.flatMap(({ service, numbers }, turn) => {
      const half = numbers.slice(0, Math.ceil(numbers.length / 2));
      return half.map((k) => () => (turn % 2 === 0 ? this.#leaves(this.#taken(this.#present.indexOf(k))) : this.#joins(service)));
    });
    return atPace(pace, (i) => (due[i] ?? fail())());
  }

  #taken(at: number): number {
    const [k = fail(), last = fail()] = [this.#present[at], this.#present.pop()];
    if (at < this.#present.length) this.#present[at] = last;
    return k;
  }

  async #leaves(k: number): Promise<void> {
    await this.#joining.leave(k);
  }

  async #joins(service: number): Promise<void> {
    const k = this.#unused[service] ?? fail();
    this.#unused[service] = k + this.#unused.length;
    await this.#joining.join(k);
    // Not before: its leaving must not overtake its joining.
    this.#present.push(k);
  }
}

async function atPace({ perSecond, seconds }: Pace, call: (i: number) => Promise<void>): Promise<Played> {
  const startMs = performance.now();
  const open = new Set<Promise<unknown>>();
  const count = Math.round(perSecond * seconds);
  for (let i = 0; i < count; i++) {
    const waitMs = startMs + (i * 1000) / perSecond - performance.now();
    if (waitMs > 0) await sleep(waitMs);
    while (open.size >= MAX_OPEN) await Promise.race(open);
    const called: Promise<boolean> = call(i).then(() => open.delete(called));
    open.add(called);
  }
  await Promise.all(open);
  return { count, tookSeconds: (performance.now() - startMs) / 1000 };
}
