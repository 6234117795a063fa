import type { MessageInitShape } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import { afterEach, expect, test } from "vitest";
import { type RebalancePlanSchema, RebalanceState } from "../../gen/waymark/control/v1/rebalance_pb.js";
import { waymark } from "../fakes/cli-world.ts";
import { FakeDiscovery } from "../fakes/discovery-server.ts";

const started: FakeDiscovery[] = [];

async function startFake() {
  const fake = new FakeDiscovery();
  await fake.start();
  started.push(fake);
  const run = (...argv: readonly string[]) => waymark(["mesh", "shards", ...argv, "--server", fake.address]);
  return { fake, run };
}

afterEach(() => {
  for (const fake of started.splice(0)) fake.stop();
});

const AT = { seconds: 1_770_000_000n, nanos: 0 };
const PLAN: MessageInitShape<typeof RebalancePlanSchema> = {
  id: "orders/41-1f0c9a3e",
  state: RebalanceState.REBALANCE_PENDING,
  author: "ann",
  reason: "new owner",
  createdAt: AT,
  epoch: 41n,
  checksum: "0123456789abcdef",
  totalCount: 3,
  moves: [
    { id: 3, before: "a", after: "c" },
    { id: 7, before: "b", after: "c" },
    { id: 9, before: "a", after: "c" },
  ],
};
const MOVES = "2 shards from a to c: 3, 9\n1 shard from b to c: 7\n";

test("a proposal prints its moves by owners and the plan, and a dry run asks for no plan", async () => {
  const { fake, run } = await startFake();
  fake.rebalance.set("propose", () => ({ plan: PLAN }));
  const { stdout, stderr } = await run("rebalance", "orders", "--force", "--reason", "new owner", "--ticket", "OPS-7");
  expect(stdout).toMatch(
    /^PLAN +STATE +MOVED +CHECKSUM .*\norders\/41-1f0c9a3e +rebalance-pending +0\/3 +0123456789abcdef .* ann +- +new owner\n$/,
  );
  expect(stderr).toBe(MOVES);
  fake.rebalance.set("propose", () => ({ plan: { ...PLAN, id: "" } }));
  expect((await run("rebalance", "orders", "--dry-run")).stdout).toMatch(/\n- +rebalance-pending/);
  const json = await run("rebalance", "orders", "--dry-run", "-o", "json");
  expect([JSON.parse(json.stdout), json.stderr]).toMatchObject([{ plan: { moves: [{ id: 3 }, { id: 7 }, { id: 9 }] } }, ""]);
  expect(fake.callsOf("propose").map(({ request }) => request)).toMatchObject([
    { namespace: "orders", force: true, dryRun: false, reason: "new owner", ticket: "OPS-7" },
    { namespace: "orders", force: false, dryRun: true, reason: "" },
    { dryRun: true },
  ]);
});

test("plans are read from all pages, with the state of the set and until when it is frozen", async () => {
  const { fake, run } = await startFake();
  const ended = { ...PLAN, id: "orders/40-aa", state: RebalanceState.FAILED, detail: "1 of 3 shards moved", movedCount: 1 };
  fake.rebalance.set("listPlans", ({ pageToken }: { readonly pageToken: string }) =>
    pageToken === "" ? { plans: [PLAN], state: PLAN.state, frozenUntil: AT, nextPageToken: "2" } : { plans: [ended], state: PLAN.state },
  );
  const { stdout, stderr } = await run("plans", "orders");
  expect(stdout).toMatch(/^PLAN .*\norders\/41-1f0c9a3e .*\norders\/40-aa +failed +1\/3 .* 1 of 3 shards moved\n$/);
  expect(stderr).toBe("orders: rebalance-pending, frozen until 2026-02-02T02:40:00.000Z\n");
});

test("an approval without a checksum prints the plan, and approves the printed checksum", async () => {
  const { fake, run } = await startFake();
  fake.rebalance.set("listPlans", () => ({ plans: [PLAN] }));
  fake.rebalance.set("approve", () => ({ plan: { ...PLAN, state: RebalanceState.DRAINING, approvedBy: "bob" } }));
  const { stdout, stderr } = await run("approve", "orders/41-1f0c9a3e", "--reason", "reviewed");
  expect([stdout, stderr]).toEqual([expect.stringMatching(/\norders\/41-1f0c9a3e +draining .* ann +bob /), MOVES]);
  expect((await run("approve", "orders/41-1f0c9a3e", "--checksum", "fedcba9876543210")).stderr).toBe("");
  const asked = { namespace: "orders", planId: "orders/41-1f0c9a3e" };
  expect(fake.callsOf("approve").map(({ request }) => request)).toMatchObject([
    { ...asked, checksum: "0123456789abcdef", reason: "reviewed" },
    { ...asked, checksum: "fedcba9876543210", reason: "" },
  ]);
  expect(fake.callsOf("listPlans")).toHaveLength(1);
  const unknown = await run("approve", "orders/1-aa");
  expect([unknown.exit, unknown.stderr]).toEqual([1, expect.stringContaining("there is no plan orders/1-aa")]);
  const invalid = await run("approve", "41-1f0c9a3e");
  expect([invalid.exit, invalid.stderr]).toEqual([2, expect.stringContaining("invalid plan 41-1f0c9a3e: expected an id such as")]);
});

test("a plan is cancelled with its reason, and an error of the server is the error of the command", async () => {
  const { fake, run } = await startFake();
  fake.rebalance.set("cancel", () => ({ plan: { ...PLAN, state: RebalanceState.CANCELLED, detail: "too many errors" } }));
  expect((await run("cancel", "orders/41-1f0c9a3e", "--reason", "too many errors")).stdout).toMatch(/ cancelled .* too many errors\n$/);
  expect(fake.callsOf("cancel")[0]?.request).toMatchObject({ namespace: "orders", reason: "too many errors" });
  fake.refusals.set("cancel", { code: status.ABORTED, message: "version_conflict: the plan has ended" });
  const refused = await run("cancel", "orders/41-1f0c9a3e");
  expect([refused.exit, refused.stderr]).toEqual([1, expect.stringContaining("the plan has ended")]);
});

test("a freeze has a duration, and 0 ends it", async () => {
  const { fake, run } = await startFake();
  fake.rebalance.set("freeze", () => ({ frozenUntil: AT, epoch: 42n }));
  const { stdout } = await run("freeze", "orders", "--for", "1h", "--reason", "upgrade");
  expect(stdout).toBe("NAMESPACE  FROZEN UNTIL              EPOCH\norders     2026-02-02T02:40:00.000Z  42\n");
  fake.rebalance.set("freeze", () => ({ epoch: 43n }));
  expect((await run("freeze", "orders", "--for", "0")).stdout).toMatch(/\norders +- +43\n$/);
  expect(fake.callsOf("freeze").map(({ request }) => request)).toMatchObject([
    { namespace: "orders", duration: { seconds: 3600n }, reason: "upgrade" },
    { duration: { seconds: 0n, nanos: 0 } },
  ]);
  expect((await run("freeze", "orders")).exit).toBe(2);
});
