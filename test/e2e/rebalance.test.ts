/** Plans that balance the shards of a real node: two operators approve, freeze and cancel them, and read them as events, plans and metrics. */
import { createHash } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type RebalancePlan, RebalanceService, RebalanceState } from "../../gen/waymark/control/v1/rebalance_pb.js";
import { ShardApproval, ShardService } from "../../gen/waymark/control/v1/shard_pb.js";
import { type Client, connect } from "../../src/client/index.ts";
import { EventReader } from "../fakes/event-reader.ts";
import { leaderHome } from "../fakes/leader-nodes.ts";
import type { NodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const NAMESPACE = "orders";
const COUNT = 12;
const ROLES = { ann: ["mesh.operate"], bob: ["mesh.operate"], app: ["mesh.admin"] } as const;
type Who = keyof typeof ROLES;

const credentials = Object.entries(ROLES).map(([principal, roles]) => {
  const hash = createHash("sha256").update(`token-of-${principal}`).digest("hex");
  return { tenant: "t", principal, token_sha256: hash, roles: [...roles] };
});
const home = leaderHome("plans", [], { tenants: { credentials } });
let node: NodeProcess;
let clients: Readonly<Record<Who, Client>>;

beforeAll(async () => {
  node = await home.start("n1");
  const clientOf = (who: Who) => connect({ servers: [node.grpc], token: `token-of-${who}`, findServers: false });
  clients = { ann: clientOf("ann"), bob: clientOf("bob"), app: clientOf("app") };
  await until("the node leads", () => node.command.stderr.includes("leader elected"));
});

afterAll(async () => {
  for (const client of Object.values(clients)) client.close();
  await node[Symbol.asyncDispose]();
  home[Symbol.dispose]();
});

const { method } = RebalanceService;

async function own(instanceId: string): Promise<void> {
  const { app } = clients;
  await app.register([{ key: { namespace: NAMESPACE, name: "worker", instanceId }, targets: [{ host: "10.0.0.1", port: 80 }] }]);
  await app.shards(NAMESPACE).own({ instance: instanceId, onOwn: () => {} });
}

async function shards() {
  return (await clients.app.call(ShardService.method.list, { namespace: NAMESPACE })).shards;
}

const newest = async () => (await clients.ann.call(method.listPlans, { namespace: NAMESPACE, limit: 1 })).plans[0];

/** Proposes a plan. The controller can make one at the same time, which is cancelled. */
async function propose(): Promise<RebalancePlan> {
  let made: RebalancePlan | undefined;
  await until("ann has proposed a plan", async () => {
    const found = await newest();
    if (found !== undefined && found.state < RebalanceState.COMPLETED)
      await clients.ann.call(method.cancel, { namespace: NAMESPACE, planId: found.id });
    ({ plan: made } = await clients.ann
      .call(method.propose, { namespace: NAMESPACE, force: true, reason: "new owner" })
      .catch(() => ({ plan: undefined })));
    return made !== undefined;
  });
  return made ?? expect.fail("no plan");
}

test("a plan moves shards after another operator than its author has approved it, and while the shards are not frozen", async () => {
  const settings = { count: COUNT, service: "worker", approval: ShardApproval.OTHER, cooldown: { seconds: 0n } };
  await clients.app.call(ShardService.method.apply, { namespace: NAMESPACE, settings });
  await Promise.all([own("a"), own("b")]);
  await until("all shards have owners", async () => (await shards()).every(({ owner }) => owner !== ""));
  const base = `http://${node.listeners["http"]}`;
  const path = `/control/events/shards?namespace=${NAMESPACE}&include_plans=true`;
  using events = new EventReader({ base, path, version: "1.1", headers: { authorization: "Bearer token-of-bob" } });
  await own("c");
  await clients.ann.call(method.freeze, { namespace: NAMESPACE, duration: { seconds: 3600n }, reason: "upgrade" });
  const plan = await propose();
  // Of 6 shards, each owner keeps ceil(1.1 × its fair share of 4).
  expect(plan).toMatchObject({ state: RebalanceState.REBALANCE_PENDING, author: "ann", totalCount: 2 });
  expect(plan.moves.every(({ after }) => after === "c")).toBe(true);
  const asked = { namespace: NAMESPACE, planId: plan.id, checksum: plan.checksum };
  await expect(clients.ann.call(method.approve, asked)).rejects.toThrow("ann is the author of the plan");
  await clients.bob.call(method.approve, asked);
  // The controller has looked at the shards again when it has seen this change.
  await clients.app.call(ShardService.method.setShard, { namespace: NAMESPACE, id: 0, change: { case: "hint", value: "eu" } });
  expect([(await newest())?.state, (await shards()).filter(({ nextOwner }) => nextOwner !== "")]).toEqual([RebalanceState.DRAINING, []]);
  await clients.ann.call(method.freeze, { namespace: NAMESPACE, duration: {} });
  await until("the plan is completed", async () => (await newest())?.state === RebalanceState.COMPLETED);
  expect(await newest()).toMatchObject({ id: plan.id, approvedBy: "bob", movedCount: 2, detail: "2 shards moved" });
  expect((await shards()).filter(({ owner }) => owner === "c")).toHaveLength(2);
  await events.reads("REBALANCE_STATE_COMPLETED");
  expect(node.command.stderr).toContain(`plan ${plan.id} for 2 shards: completed`);
  const audit = await node.run(["audit", "list", "--namespace", NAMESPACE, "-o", "json", "--token", "token-of-app"]);
  const records = (JSON.parse(audit.stdout) as { records: readonly { principal: string; action: string; detail: string }[] }).records;
  const ofPlan = records.filter(({ detail }) => detail.includes(plan.id)).map(({ principal, action }) => `${principal} ${action}`);
  expect(ofPlan.toReversed()).toEqual(["ann mesh.propose_rebalance", "bob mesh.approve_rebalance", " mesh.rebalance_plan"]);
  const metrics = await (await fetch(`${base}/metrics`, { headers: { authorization: "Bearer token-of-app" } })).text();
  expect(metrics).toContain('mesh_shards{namespace="orders",status="active"} 12\n');
  expect(metrics).toContain('mesh_rebalance_state{namespace="orders",state="steady"} 1\n');
  expect(metrics).toContain('mesh_shard_imbalance_ratio{namespace="orders"} 1.25\n');
  expect(metrics).toContain('mesh_shard_moves_total{reason="plan",outcome="done"} 2\n');
  expect(metrics).toContain("mesh_shard_handover_ms_count 2\n");
});

test("a cancelled plan moves nothing", async () => {
  const before = (await shards()).map(({ owner }) => owner);
  await own("d");
  const { id } = await propose();
  const { stdout } = await node.run(["mesh", "shards", "cancel", id, "--reason", "too early", "--token", "token-of-bob"]);
  expect(stdout).toMatch(new RegExp(`\\n${id} +cancelled .* too early\\n$`));
  const page = await fetch(`http://${node.listeners["http"]}/control/rebalance-plans?namespace=${NAMESPACE}&states=cancelled&limit=1`, {
    headers: { authorization: "Bearer token-of-bob" },
  });
  expect([await page.json(), page.headers.has("etag")]).toMatchObject([{ plans: [{ id, detail: "too early" }] }, true]);
  expect((await shards()).map(({ owner }) => owner)).toEqual(before);
});
