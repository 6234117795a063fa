/**
 * Hostile HTTP/2, the long forms: attackers that come back as soon as they are cut, ten thousand idle connections, and
 * random frames. The process lives, memory is bounded, and the others are served.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { expect, type TestContext, test } from "vitest";
import type { GrpcLimits } from "../../src/server/grpc-listener.io.ts";
import { ATTACKS } from "../e2e/h2-attacks.ts";
import { call, callHeaders, FLAG, frame, RawConnection } from "../e2e/h2-frames.ts";
import { Victim } from "../e2e/h2-victim.ts";
import { until } from "../fakes/until.ts";

/** A listener of the test's own, which ends with it. */
async function attackedBy({ onTestFinished }: TestContext, limits: Partial<GrpcLimits> = {}): Promise<Victim> {
  const victim = await Victim.start("grpc", "--limits", JSON.stringify(limits));
  onTestFinished(() => victim.stop());
  return victim;
}

/** Others are served as before, as soon as the machine lets them. */
async function isQuickAgain(context: TestContext, victim: Victim): Promise<void> {
  await context.expect.poll(async () => (await victim.latency(500)).p50Ms, { timeout: 300_000 }).toBeLessThan(50);
}

interface Crowd {
  readonly port: number;
  readonly count: number;
  readonly kind: "silent" | "greeted";
}

/** Opens so many connections from another process; resolves when each was open. They stay until the test is over. */
async function crowd({ onTestFinished }: TestContext, { port, count, kind }: Crowd): Promise<void> {
  const path = fileURLToPath(new URL("../e2e/h2-crowd-child.ts", import.meta.url));
  const child = spawn(process.execPath, [path, String(port), String(count), kind], { stdio: ["ignore", "pipe", "inherit"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  await once(child.stdout, "data", { signal: AbortSignal.timeout(300_000) });
}

// Each attacker and its listener are processes of their own, and others' time is judged only afterwards, until it is right: two attacks at a time.
test.concurrent.for(Object.keys(ATTACKS))(
  "an attacker that comes back for 6 s (%s): the process lives, in bounded memory, and answers",
  async (name, context) => {
    const victim = await attackedBy(context);
    const beforeMiB = victim.rssMiB();
    const attack = victim.attacked(name, 6);
    const during = await victim.latency(6_000, attack);
    await attack;
    expect(victim.isAlive).toBe(true);
    // Each call was answered; how soon is judged by `floods`, and by the bench.
    expect(during.maxMs).not.toBe(Number.POSITIVE_INFINITY);
    expect(victim.rssMiB() - beforeMiB).toBeLessThan(300);
    await isQuickAgain(context, victim);
  },
);

test("10,000 idle connections cost memory in proportion, and the others nothing", async (context) => {
  // The crowd stays, though it answers no PING: what it costs the others is felt each time, what another process costs them is not.
  const victim = await attackedBy(context, { keepaliveTimeMs: 3_600_000, idleTimeoutMs: 3_600_000 });
  const calm = await victim.latency(1_000);
  const [calmMiB, calmCount] = [victim.rssMiB(), victim.openFileCount()];
  const half = { port: victim.port, count: 5_000, kind: "greeted" } as const;
  await Promise.all([crowd(context, half), crowd(context, half)]);
  // Counted at the server, where they cost something.
  const isThere = () => victim.openFileCount() >= calmCount + 10_000;
  await until("all are there", isThere);
  expect((victim.rssMiB() - calmMiB) / 10_000).toBeLessThan(70 / 1_024);
  const crowdedMs = async () => (await victim.latency(3_000)).p99Ms;
  await expect.poll(crowdedMs, { timeout: 300_000 }).toBeLessThanOrEqual(Math.max(10 * calm.p99Ms, 25));
  expect(isThere()).toBe(true);
});

test("10,000 connections that say nothing are cut", async (context) => {
  const victim = await attackedBy(context);
  const calmCount = victim.openFileCount();
  const opened = crowd(context, { port: victim.port, count: 10_000, kind: "silent" });
  await until("the crowd is at the door", () => victim.openFileCount() > calmCount + 100);
  await opened;
  // Counted at the server: a client whose handshake the full listen queue dropped believes that it is connected.
  await until("the crowd is gone", () => victim.openFileCount() <= calmCount + 50);
  expect(victim.isAlive).toBe(true);
  await isQuickAgain(context, victim);
});

test("random frames on 3,000 connections never end the process", async (context) => {
  const victim = await attackedBy(context);
  const calmCount = victim.openFileCount();
  let seed = 8_123;
  const random = (below: number) => {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
  };
  const wild = () => {
    const payload = Buffer.from(Array.from({ length: random(40) }, () => random(256)));
    return frame(random(11), { flags: random(256), stream: random(6), payload });
  };
  const half = callHeaders("/waymark.discovery.v1.DiscoveryService/CatalogWatch");
  for (let i = 0; i < 3_000; i++) {
    const connection = new RawConnection(victim.port);
    connection.greet();
    const stream = random(4) * 2 + 1;
    connection.send(random(2) === 0 ? call(stream) : frame(TYPE_HEADERS, { flags: FLAG.END_HEADERS, stream, payload: half }));
    connection.send(...Array.from({ length: random(20) }, wild));
    if (i % 100 === 99) await victim.query();
    if (random(3) === 0) connection.destroy();
    else setTimeout(() => connection.destroy(), random(200));
    if (!victim.isAlive) throw new Error(`the process ended at connection ${i}; seed 8123`);
  }
  await until("it has seen them all end", () => !victim.isAlive || victim.openFileCount() <= calmCount + 5);
  expect(victim.isAlive).toBe(true);
  expect(await victim.query()).not.toBe(Number.POSITIVE_INFINITY);
});

const TYPE_HEADERS = 1;
