/**
 * The example programs of docs/examples/shards, in TypeScript and Go: owners of one set, which follow each other, and callers.
 *
 * @module-tag path
 */
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { expect, test } from "vitest";
import { mustRun, ROOT } from "../../scripts/run.ts";
import { connect, parseFence } from "../../src/client/index.ts";
import { shardOfKey } from "../../src/lib/shard-key.ts";
import { EtcdCluster, isEtcdThere } from "../fakes/etcd.ts";
import { callNode, LEASE_MS, leaderHome, oneLeader } from "../fakes/leader-nodes.ts";
import { CommandProcess, type NodeProcess } from "../fakes/node-process.ts";
import { freePort } from "../fakes/probed-servers.ts";
import { applySet, areOwnedBy, type ShardList, shardsUntil } from "../fakes/shard-nodes.ts";
import { isGoThere } from "./needs.ts";

const GO = join(ROOT, "test/interop/go");
const GO_PROGRAM = join(ROOT, ".cache/interop-go-shards");
const EXAMPLES = join(ROOT, "docs/examples/shards/typescript");
const NAMESPACE = "orders";
const COUNT = 8;
const areThere = isEtcdThere() && (await isGoThere());

async function buildGo(): Promise<void> {
  await mustRun("buf", ["generate", "--template", "buf.gen.yaml"], { cwd: GO });
  await mustRun("go", ["vet", "./shards"], { cwd: GO });
  await mustRun("go", ["build", "-o", GO_PROGRAM, "./shards"], { cwd: GO });
}

/** An example in TypeScript, for which `waymark` is the client of these sources. */
function typescript(name: string, args: readonly string[]): CommandProcess {
  const client = pathToFileURL(join(ROOT, "src/client/index.ts")).href;
  const resolve = `resolve: (name, context, next) => next(name === "waymark" ? ${JSON.stringify(client)} : name, context)`;
  const hook = `data:text/javascript,import { registerHooks } from "node:module"; registerHooks({ ${resolve} });`;
  return new CommandProcess(["--import", hook, join(EXAMPLES, name), NAMESPACE, ...args], "", [], process.execPath);
}

function go(verb: "call" | "own", args: readonly string[]): CommandProcess {
  return new CommandProcess([verb, NAMESPACE, ...args], "", [], GO_PROGRAM);
}

/** A key of a shard that this instance owns. */
function keyOf({ shards }: ShardList, instance: string): { readonly key: string; readonly id: number } {
  for (let i = 0; i < 1000; i++) {
    const id = shardOfKey(NAMESPACE, COUNT, `key-${i}`);
    if (shards[id]?.owner === instance) return { key: `key-${i}`, id };
  }
  throw new Error(`${instance} owns no shard`);
}

async function setStatus(node: NodeProcess, id: number, status: string): Promise<void> {
  const { isOk, body } = await callNode(node, "waymark.control.v1.ShardService/SetShard", { namespace: NAMESPACE, id, status });
  if (!isOk) throw new Error(body.message);
  await shardsUntil(status, [node], NAMESPACE, ({ shards }) => shards[id]?.status === status);
}

/** Each of these owners answers both callers with the fence of its shard. */
async function answer(owners: readonly string[], list: ShardList, nodes: readonly NodeProcess[]): Promise<void> {
  const servers = nodes.map(({ grpc }) => grpc);
  for (const owner of owners) {
    const { key, id } = keyOf(list, owner);
    const calls = [go("call", [key, ...servers]), typescript("caller.ts", [key, ...servers])];
    for (const { exit, stdout, stderr } of await Promise.all(calls.map((call) => call.finished()))) {
      expect([exit, stderr]).toEqual([0, ""]);
      expect(parseFence(stdout.trim())).toEqual({ scope: `shard/${NAMESPACE}/${id}`, fence: list.shards[id]?.fence });
    }
  }
}

test.skipIf(!areThere)(
  "owners in TypeScript and Go follow each other when one is paused, loses its node or leaves, and both callers find them (needs etcd and Go)",
  async () => {
    await buildGo();
    await using etcd = await EtcdCluster.start();
    using home = leaderHome("shards", etcd.endpoints, { fabric: { interval: "400ms", ping_timeout: "250ms" } });
    const first = await home.start("n1");
    await using second = await home.start("n2", [first]);
    const nodes = [first, second];
    await oneLeader(nodes);
    await applySet(second, NAMESPACE, { count: COUNT });
    const client = connect({ servers: [second.grpc], findServers: false });
    const port = await freePort();
    await client.register([{ key: { namespace: NAMESPACE, name: "worker", instanceId: "go" }, targets: [{ host: "127.0.0.1", port }] }]);
    await using inGo = go("own", ["go", `127.0.0.1:${port}`, second.grpc, first.grpc]);
    await using inTypescript = typescript("owner.ts", ["worker", "typescript", first.grpc, second.grpc]);

    const both = await shardsUntil("both own shards", nodes, NAMESPACE, areOwnedBy("go", "typescript"));
    await answer(["go", "typescript"], both, nodes);

    inGo.kill("SIGSTOP");
    const one = await shardsUntil("the other owner follows", nodes, NAMESPACE, areOwnedBy("typescript"));
    inGo.kill("SIGCONT");
    const { key, id } = keyOf(both, "go");
    const metadata = `${NAMESPACE};${id};${both.shards[id]?.epoch}`;
    const late = async () => (await fetch(`http://127.0.0.1:${port}`, { method: "POST", headers: { "waymark-shard": metadata } })).status;
    expect(await late()).toBe(409);
    expect(shardOfKey(NAMESPACE, COUNT, key)).toBe(id);
    await answer(["typescript"], one, nodes);

    await first.stop("SIGKILL");
    const hasFollowed = ({ shards }: ShardList) => shards.every(({ nodeId }) => nodeId === "n2");
    const after = await shardsUntil("the owner is attached to another node", [second], NAMESPACE, hasFollowed, 4 * LEASE_MS);
    await answer(["typescript"], after, [second]);

    inTypescript.kill("SIGTERM");
    expect((await inTypescript.finished()).exit).toBe(0);
    await answer(["go"], await shardsUntil("the other owner follows", [second], NAMESPACE, areOwnedBy("go")), [second]);

    await setStatus(second, id, "SHARD_STATUS_PAUSED");
    for (const call of [go("call", [key, second.grpc]), typescript("caller.ts", [key, second.grpc])])
      expect((await call.finished()).stderr).toContain(`shard ${NAMESPACE}/${id} is paused: it accepts no new work`);
    await setStatus(second, id, "SHARD_STATUS_ACTIVE");

    await using next = typescript("owner.ts", ["worker", "typescript", second.grpc]);
    await next.line(/^listening/);
    // It listens before it is an owner, and shards can be given up only to an owner.
    await shardsUntil("both own shards again", [second], NAMESPACE, areOwnedBy("go", "typescript"));
    inGo.kill("SIGTERM");
    expect((await inGo.finished()).exit).toBe(0);
    const { shards } = await shardsUntil("the other owner follows", [second], NAMESPACE, areOwnedBy("typescript"));
    expect(shards.map(({ reason }) => reason)).toContain("its owner gives up its shards");
    client.close();
    await first[Symbol.asyncDispose]();
  },
);
