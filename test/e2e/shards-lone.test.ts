/** Shards of a node without etcd: the exact errors of operators' mistakes, and owners whose node restarts. */
import { join } from "node:path";
import { expect, test } from "vitest";
import { connect } from "../../src/client/index.ts";
import { leaderHome, oneLeader } from "../fakes/leader-nodes.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { applySet, areFencesLater, areOwnedBy, LocalOwner, LocalOwners, shardsOf, shardsUntil } from "../fakes/shard-nodes.ts";
import { until } from "../fakes/until.ts";

const NAMESPACE = "orders";
const COUNT = 6;

/** A file for `mesh shards apply`. */
function fileOf(settings: object): string {
  return JSON.stringify({ namespace: NAMESPACE, settings: { count: COUNT, service: "worker", ...settings } }, undefined, 1);
}

async function failsWith(node: NodeProcess, argv: readonly string[], input?: string): Promise<string> {
  const { exit, stdout, stderr } = await node.run(["mesh", "shards", ...argv], input);
  expect([exit > 0, stdout]).toEqual([true, ""]);
  return stderr;
}

test("operators' mistakes are refused, owners of a restarted node get their shards back, a client of a resolver follows them, and all can leave", async () => {
  using home = leaderHome("lone-shards", [], { fabric: { enabled: false } });
  const first = await home.start("n1");
  await oneLeader([first]);
  const port = first.grpc.split(":").at(-1) ?? "";
  await applySet(first, NAMESPACE, { count: COUNT });
  const apply = ["apply", "-f", "-"];
  expect(
    await Promise.all([
      failsWith(first, apply, fileOf({ count: 7 })),
      failsWith(first, apply, fileOf({ strategy: "random" })),
      failsWith(first, [...apply, "--expect", "7"], fileOf({})),
      failsWith(first, ["simulate", NAMESPACE, "--remove", "stranger", "--add", "d:weight=2"]),
    ]),
  ).toEqual([
    "error: invalid_argument: settings.count: must stay 6 until the set is deleted, got 7\n",
    'error: -:6: strategy: "random" is not one of rendezvous, ring, locality\nerror: nothing was applied\n',
    "error: version_conflict: the set orders has the epoch 1, not 7; read it again\n",
    "error: invalid_argument: removed_owners[0]: stranger is not an owner in orders\n",
  ]);

  const local = new LocalOwners(NAMESPACE);
  const owners = [await LocalOwner.start(local, "a", [first]), await LocalOwner.start(local, "b", [first])];
  const before = await shardsUntil("all shards are owned", [first], NAMESPACE, areOwnedBy("a", "b"));
  await until("the owners act", () => local.valid.length === COUNT);
  await first.stop("SIGKILL");
  await using second = await startNodeProcess([
    "--node-id",
    "n1",
    "--config",
    home.config,
    "--data-dir",
    join(home.folder, "n1"),
    "--grpc-port",
    port,
  ]);
  const after = await shardsUntil(
    "the owners have their shards again",
    [second],
    NAMESPACE,
    (list) => areFencesLater(before.shards, list.shards) && areOwnedBy("a", "b")(list),
  );
  await until("the owners act again", () => local.valid.length === COUNT);
  expect(after.shards.map(({ owner }) => owner)).toEqual(before.shards.map(({ owner }) => owner));
  expect(local.overlaps).toEqual([]);

  const remove = ["mesh", "shards", "delete", NAMESPACE];
  const { exit, stderr } = await second.run(remove);
  expect([exit, stderr]).toEqual([1, expect.stringContaining("namespace: 2 instances of worker can own shards of it; stop them first")]);

  const mode = ["--mode", "resolver", "--upstream", second.grpc, "--namespaces", "svc.market", "--ephemeral"];
  const place = ["--node-id", "edge", "--cluster-id", "lone-shards", "--region", "eu"];
  await using edge = await startNodeProcess([...mode, ...place]);
  const client = connect({ servers: [edge.grpc] });
  const router = client.shards(NAMESPACE);
  await router.ready();
  expect(["a", "b"]).toContain(router.route("customer-7").owner);
  client.close();

  const lostCounts = owners.map(({ lostCount }) => lostCount);
  await Promise.all(owners.map((owner) => owner.leave({ timeoutMs: 1 })));
  await shardsUntil("all owners have left at the same time", [second], NAMESPACE, ({ unownedCount }) => unownedCount === COUNT);
  expect(owners.map(({ lostCount }) => lostCount)).toEqual(lostCounts);
  await until("the log has a warning", () => /\d shards of orders without an owner/.test(second.command.stderr));
  for (const owner of owners) owner[Symbol.dispose]();

  expect(await second.run(remove)).toMatchObject({ exit: 0, stdout: "DELETED\norders\n" });
  expect(await failsWith(second, ["get", "orders/1"])).toContain("not_found: namespace orders has no shards");
  const again = async () => (await second.run(["mesh", "shards", ...apply], fileOf({ count: 7 }))).exit === 0;
  await until("the set is gone, and another one is created", again);
  const { shards, epoch } = await shardsOf(second, NAMESPACE);
  expect([shards.length, epoch > after.epoch]).toEqual([7, true]);
});
