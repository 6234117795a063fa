/**
 * Endpoints that join and leave at a steady rate, each for itself: the same ones at the same times for each peer of one size. Who joins is new and of a service that is drawn, so the
 * counts of services wander. If those who left came back instead, the counts would return to where they were, and a summary would hardly ever change.
 */
import { Rng } from "../src/lib/rng.ts";
import { sleep } from "./_mesh.ts";
import { fail } from "./_work.ts";

export interface JoinOptions {
  /** Endpoints 0 up to this are there when it begins, in turn of each service. */
  readonly endpoints: number;
  readonly services: number;
  readonly perSecond: number;
  readonly seconds: number;
}

/** What joins and leaves. */
export interface Joining {
  readonly join: (k: number) => Promise<unknown>;
  readonly leave: (k: number) => Promise<unknown>;
}

export interface Joined {
  /** How many joined or left. */
  readonly count: number;
  /** From the first until the last was taken. */
  readonly tookSeconds: number;
  /** Those that are there now. */
  readonly present: ReadonlySet<number>;
}

/** Calls under way at a time; what is due meanwhile waits. */
const MAX_OPEN = 64;

/** Half of them leave and half join, each drawn at random. Rejects where a call does. */
export async function joinAndLeave({ join, leave }: Joining, { endpoints, services, perSecond, seconds }: JoinOptions): Promise<Joined> {
  const rng = new Rng("joins");
  const below = (count: number): number => Math.floor(rng.next() * count);
  const present = Array.from({ length: endpoints }, (_, k) => k);
  /** Of each service, its lowest number that nobody has had. */
  const unused = Array.from({ length: services }, (_, service) => service + services * Math.ceil((endpoints - service) / services));
  const taken = (): number => {
    const at = below(present.length);
    const [k = fail(), last = fail()] = [present[at], present.pop()];
    if (at < present.length) present[at] = last;
    return k;
  };
  const made = (): number => {
    const service = below(services);
    const k = unused[service] ?? fail();
    unused[service] = k + services;
    return k;
  };
  const joined = async (k: number): Promise<void> => {
    await join(k);
    // Not before: its leaving must not overtake its joining.
    present.push(k);
  };
  const startMs = performance.now();
  const open = new Set<Promise<unknown>>();
  const wanted = Math.round(perSecond * seconds);
  for (let i = 0; i < wanted; i++) {
    const dueMs = startMs + (i * 1000) / perSecond;
    if (dueMs > performance.now()) await sleep(dueMs - performance.now());
    while (open.size >= MAX_OPEN) await Promise.race(open);
    const call: Promise<boolean> = (i % 2 === 0 ? leave(taken()) : joined(made())).then(() => open.delete(call));
    open.add(call);
  }
  await Promise.all(open);
  return { count: wanted, tookSeconds: (performance.now() - startMs) / 1000, present: new Set(present) };
}
