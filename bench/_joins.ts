/** Endpoints that join and leave at a steady rate: the same ones at the same times for each peer. */
import { Rng } from "../src/lib/rng.ts";
import { sleep } from "./_mesh.ts";
import { fail } from "./_work.ts";

export interface JoinOptions {
  /** Endpoints 0 up to this are there when it begins; as many more numbers are used again in turn. */
  readonly endpoints: number;
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

/** Some more numbers than are there, so that who joins is not who left last. */
const SPARE = 0.1;
/** Calls under way at a time; what is due meanwhile waits. */
const MAX_OPEN = 64;

/** Half of them leave and half join, each drawn at random. Rejects where a call does. */
export async function joinAndLeave({ join, leave }: Joining, { endpoints, perSecond, seconds }: JoinOptions): Promise<Joined> {
  const rng = new Rng("joins");
  const present = Array.from({ length: endpoints }, (_, k) => k);
  const absent = Array.from({ length: Math.max(1, Math.round(endpoints * SPARE)) }, (_, i) => endpoints + i);
  const take = (from: number[]): number => {
    const at = Math.floor(rng.next() * from.length);
    const [taken = fail(), last = fail()] = [from[at], from.pop()];
    if (at < from.length) from[at] = last;
    return taken;
  };
  const put = async (k: number, isLeaving: boolean): Promise<void> => {
    await (isLeaving ? leave(k) : join(k));
    // Not before: its next call must not overtake this one.
    (isLeaving ? absent : present).push(k);
  };
  const startMs = performance.now();
  const open = new Set<Promise<unknown>>();
  const wanted = Math.round(perSecond * seconds);
  for (let i = 0; i < wanted; i++) {
    const dueMs = startMs + (i * 1000) / perSecond;
    if (dueMs > performance.now()) await sleep(dueMs - performance.now());
    while (open.size >= MAX_OPEN) await Promise.race(open);
    const isLeaving = i % 2 === 0;
    const k = take(isLeaving ? present : absent);
    const call: Promise<boolean> = put(k, isLeaving).then(() => open.delete(call));
    open.add(call);
  }
  await Promise.all(open);
  return { count: wanted, tookSeconds: (performance.now() - startMs) / 1000, present: new Set(present) };
}
