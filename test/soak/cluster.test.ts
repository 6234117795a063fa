/**
 * Half an hour of everything that can go wrong, with real processes: five nodes of two clusters in network namespaces, under load and
 * watches. After each fault all is compared: what was acknowledged, what each node shows and counts, and what each watch has folded.
 * `WAYMARK_SOAK_MINUTES` and `WAYMARK_SEED` set how long and which.
 */
import { existsSync } from "node:fs";
import { expect, test } from "vitest";
import { Rng } from "../../src/lib/rng.ts";
import { canNamespaces } from "../fakes/net-world.ts";
import { LIBRARY, SoakWorld } from "../fakes/soak-world.ts";

const MINUTES = Number(process.env["WAYMARK_SOAK_MINUTES"] ?? 30);
const SEED = process.env["WAYMARK_SEED"] ?? String(Date.now() % 1_000_000);
const canRun = canNamespaces() && existsSync(LIBRARY);

type Fault = (world: SoakWorld, rng: Rng) => Promise<string>;

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
const some = (world: SoakWorld, rng: Rng) => world.names[rng.int(world.names.length)] ?? "n1";

/** What is set upon the world, under load; each is over when it resolves. */
const FAULTS: Readonly<Record<string, Fault>> = {
  "cut both ways": async (world, rng) => {
    const side = world.names.filter(() => rng.next() < 0.5);
    for (const one of side)
      for (const other of world.names.filter((name) => !side.includes(name))) {
        world.net.cut(one, other);
        world.net.cut(other, one);
      }
    await pause(2000 + rng.int(18_000));
    world.net.heal();
    return side.join();
  },
  "cut one way": async (world, rng) => {
    const from = some(world, rng);
    const deaf = world.names.filter((name) => name !== from && rng.next() < 0.6);
    for (const to of deaf) world.net.cut(from, to);
    await pause(2000 + rng.int(18_000));
    world.net.heal();
    return `${from} to ${deaf.join()}`;
  },
  freeze: async (world, rng) => {
    const name = some(world, rng);
    await world.freeze(name);
    await pause(1000 + rng.int(15_000));
    world.thaw(name);
    return name;
  },
  "kill -9": async (world, rng) => {
    const names = world.names.filter(() => rng.next() < 0.35);
    await Promise.all(names.map((name) => world.end(name, "SIGKILL")));
    await pause(rng.int(5000));
    await Promise.all(names.map((name) => world.start(name)));
    return names.join();
  },
  "polite restart": async (world, rng) => {
    const name = some(world, rng);
    await world.end(name, "SIGTERM");
    await world.start(name);
    return name;
  },
  "empty disk": async (world, rng) => {
    const name = some(world, rng);
    await world.loseDisk(name);
    return name;
  },
  "policy change": async (world, rng) => {
    const at = ["n1", "n2", "n3"][rng.int(3)] ?? "n1";
    await world.switchPolicy(at);
    return at;
  },
  "clock a day ahead": async (world, rng) => {
    const name = some(world, rng);
    await world.dayAhead(name, () => pause(5000 + rng.int(5000)));
    return name;
  },
};

test.skipIf(!canRun)(
  `${MINUTES} min of faults: nothing acknowledged is lost, nothing removed returns, everybody says the same${canRun ? "" : " (skipped: needs root, ip and libfaketime)"}`,
  { timeout: (MINUTES + 15) * 60_000 },
  async () => {
    console.error(`seed ${SEED}`);
    const rng = new Rng(SEED);
    await using world = new SoakWorld(SEED);
    await world.open();
    const endMonoMs = performance.now() + MINUTES * 60_000;
    const kinds = Object.keys(FAULTS);
    const counts = new Map<string, number>();
    for (let round = 0; performance.now() < endMonoMs; round++) {
      // Each kind once before any of them again.
      const kind = kinds[round % kinds.length] ?? "";
      const startMonoMs = performance.now();
      await Promise.all(Object.values(world.loads).map((load) => load.progress(30)));
      const where = await FAULTS[kind]?.(world, rng);
      await Promise.all(Object.values(world.loads).map((load) => load.progress(30)));
      const settleMonoMs = performance.now();
      console.error(`${round} ${kind} (${where ?? ""})`);
      await world.settle().catch((error: unknown) => {
        console.error(world.said());
        throw error;
      });
      const [faultMs, settledMs] = [settleMonoMs - startMonoMs, performance.now() - settleMonoMs];
      console.error(`${round} ${kind} (${where ?? ""}): ${(faultMs / 1000).toFixed(1)} s, settled in ${(settledMs / 1000).toFixed(1)} s`);
      counts.set(kind, (counts.get(kind) ?? 0) + 1);
      world.resume();
    }
    for (const load of Object.values(world.loads)) await load.stop();
    console.error(`faults: ${JSON.stringify(Object.fromEntries(counts))}`);
    for (const [cluster, load] of Object.entries(world.loads)) console.error(`${cluster}: ${JSON.stringify(load.counts)}`);
    for (const watch of world.watches) console.error(`watch: ${watch.streamCount} streams, ${watch.checkedCount} digests compared`);
    expect(world.watches.flatMap(({ faults }) => faults)).toEqual([]);
  },
);
