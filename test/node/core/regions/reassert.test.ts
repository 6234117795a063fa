/** What others know better of a cluster is said again once its hold-down is over, in slices, and the audit is told. */
import { expect, test } from "vitest";
import { ReassertQueue } from "../../../../src/node/core/regions/reassert.ts";
import { HeldWorld, sealedSummary, summaryKey } from "../../../fakes/held-world.ts";

const HOLD_DOWN_MS = 5000;
const UNDER = { policyVersion: "v7", policyNumber: 7, policyRule: "svc", noStale: true };

function exporter({ saidMonoMs, rank = 0 }: { readonly saidMonoMs?: number; readonly rank?: number } = {}) {
  const world = new HeldWorld();
  const node = world.node({ nodeId: "a1", clusterId: "A" });
  const restating = new ReassertQueue({
    held: node.held,
    holdDownMs: HOLD_DOWN_MS,
    saidMonoMs: () => saidMonoMs,
    rankOf: () => rank,
    saidUnder: () => UNDER,
  });
  const said: string[] = [];
  /** Runs for a while, and says what was said again and when. */
  const run = (forMs: number) => {
    for (const untilMs = world.nowMs + forMs; world.nowMs < untilMs; world.nowMs += 100)
      for (const { facts, cause } of restating.step(node.time).drafts)
        said.push(`${world.nowMs} ${facts.serviceId} ${cause}${facts.withdrawn ? " gone" : ""}`);
    return said.splice(0);
  };
  return { world, node, restating, run };
}

const echo = (serviceId: string, version: number) => sealedSummary({ serviceId, version, exporter: "a9" });

test("an echo of what was just said waits for the hold-down, and what nobody knows is taken back at once", () => {
  const { world, node, restating, run } = exporter();
  const version = node.say("cart") ?? 0;
  world.nowMs += 1000;
  for (const name of ["cart", "gone"]) expect(node.takeSeal(echo(name, version + 7))).toBe("echo");
  expect(run(20_000)).toEqual(["1000 gone exceeded gone", "5000 cart exceeded"]);
  expect(node.held.own.find(summaryKey("cart", "A"), node.time)?.version).toBe(version + 8);
  expect(restating.nextDeadlineMs()).toBe(Number.POSITIVE_INFINITY);
});

test("what is taken back is said under the policy that is in force, and what is said again under that by which it was exported", () => {
  const { node, restating } = exporter();
  const version = node.say("cart", { policyNumber: 3, policyRule: "svc.shop" }) ?? 0;
  for (const name of ["cart", "gone"]) node.takeSeal(echo(name, version + 7));
  const said = [0, HOLD_DOWN_MS].flatMap((afterMs) => restating.step({ ...node.time, monoMs: node.time.monoMs + afterMs }).drafts);
  expect(said.map(({ facts }) => [facts.serviceId, facts.withdrawn, facts.policyNumber, facts.policyRule, facts.noStale])).toEqual([
    ["gone", true, 7, "svc", true],
    ["cart", false, 3, "svc.shop", false],
  ]);
});

test("what counts may be an older word of another node, and what this one said just now holds it down all the same", () => {
  const { world, node, run } = exporter({ saidMonoMs: 9000 });
  node.say("cart");
  world.nowMs += 10_000;
  node.takeSeal(echo("cart", 2_000_000_000));
  expect(run(20_000)).toEqual(["14000 cart exceeded"]);
});

test.each([
  { rank: 0, want: ["0 cart exceeded"] },
  { rank: 1, want: ["5000 cart exceeded"] },
  { rank: 3, want: ["7000 cart exceeded"] },
])(
  "an echo is answered by the exporter of its service, and by the others only when that one does not for a hold-down: rank $rank",
  ({ rank, want }) => {
    for (const isAnswered of [false, true]) {
      const { world, node, run } = exporter({ rank });
      const version = node.say("cart") ?? 0;
      world.nowMs = 20_000;
      node.takeSeal(echo("cart", version + 7));
      const said = run(1000);
      if (isAnswered && rank > 0) expect(node.say("cart")).toBe(version + 8);
      expect([...said, ...run(20_000)]).toEqual(
        isAnswered && rank > 0 ? [] : want.map((text) => text.replace(/\d+/, (ms) => `${20_000 + Number(ms)}`)),
      );
    }
  },
);

test("what somebody says meanwhile below an echo is waited for once, so that who says something again and again does not keep it back", () => {
  const { world, node, restating } = exporter({ rank: 1 });
  const other = world.node({ nodeId: "a2", clusterId: "A" });
  const version = other.say("cart") ?? 0;
  node.hear(other);
  world.nowMs = 20_000;
  node.takeSeal(echo("cart", version + 70));
  const times: number[] = [];
  for (const untilMs = world.nowMs + 20_000; world.nowMs < untilMs; world.nowMs += 500) {
    if (times.length === 0 && world.nowMs % HOLD_DOWN_MS === 4500) {
      other.say("cart", { endpointCount: world.nowMs });
      node.hear(other);
    }
    if (restating.step(node.time).drafts.length > 0) times.push(world.nowMs);
  }
  expect(times).toEqual([29_500]);
});

test("what was said anew meanwhile is not said again", () => {
  const { node, run } = exporter();
  const version = node.say("cart") ?? 0;
  node.takeSeal(echo("cart", version + 7));
  expect(run(1000)).toEqual([]);
  expect(node.say("cart", { endpointCount: 9 })).toBe(version + 8);
  expect(run(20_000)).toEqual([]);
});

test("echoes that come again and again say it once a hold-down, and many go in slices", () => {
  const { world, node, restating, run } = exporter();
  const version = node.say("cart") ?? 0;
  world.nowMs += HOLD_DOWN_MS;
  const times: number[] = [];
  for (let n = 1; n <= 50; n++) {
    node.takeSeal(echo("cart", version + 10 * n));
    times.push(...run(500).map((text) => Number(text.split(" ")[0])));
  }
  for (const [i, atMs] of times.entries()) if (i > 0) expect(atMs - (times[i - 1] ?? 0)).toBeGreaterThanOrEqual(HOLD_DOWN_MS);
  expect(times.length).toBeGreaterThan(3);
  run(HOLD_DOWN_MS);
  for (let i = 0; i < 100; i++) node.takeSeal(echo(`s${i}`, 1000));
  expect(restating.step(node.time).drafts).toHaveLength(20);
  expect(restating.nextDeadlineMs()).toBeLessThanOrEqual(node.time.monoMs);
  expect(run(1000)).toHaveLength(80);
});
