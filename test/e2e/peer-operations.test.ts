/** Operators take a real node out of service and back, over the command line and HTTP. Each of the two nodes has a control store of its own. */
import { expect, test } from "vitest";
import { type Ran, type WorldOptions, waymark } from "../fakes/cli-world.ts";
import { ClusterHome } from "../fakes/cluster-home.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

function start(nodeId: string, ...flags: readonly string[]): Promise<NodeProcess> {
  return startNodeProcess(["--ephemeral", "--node-id", nodeId, "--cluster-id", "c1", ...flags]);
}

/** Runs a command in this process, which is faster than a process of its own. */
function run({ grpc }: NodeProcess, argv: readonly string[], options?: WorldOptions): Promise<Ran> {
  return waymark([...argv, "--server", grpc], options);
}

const REASON = ["--reason", "new disks", "--yes"];
const ENTRY = ["--namespace", "svc.market", "--name", "web", "--instance", "web-1", "--target", "10.0.0.1:80", "--ttl", "30s"];

interface Answer {
  readonly status: number;
  readonly etag: string | null;
  readonly json: { readonly peer?: { readonly desired: string }; readonly details?: readonly { readonly debug: unknown }[] };
}

async function send(node: NodeProcess, path: string, headers: Readonly<Record<string, string>> = {}): Promise<Answer> {
  const response = await fetch(`http://${node.listeners["http"]}/control/peers/${path}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify({ reason: "over HTTP" }),
  });
  return { status: response.status, etag: response.headers.get("etag"), json: (await response.json()) as Answer["json"] };
}

test("a node is cordoned from another one, refuses registrations, and accepts them again; one that has left is forgotten", async () => {
  using home = new ClusterHome({ dns: { min_ttl: "1s", max_ttl: "1s" } });
  await using a = await start("a", "--config", home.config);
  await using b = await start("b", "--config", home.config, "--join", a.listeners["fabric"] ?? "");
  const peerOf = async (nodeId: string, from = a) => {
    const { stdout } = await run(from, ["mesh", "peers", "get", nodeId, "-o", "json"]);
    return stdout === "" ? {} : (JSON.parse(stdout) as { readonly peer: Readonly<Record<string, unknown>> }).peer;
  };
  await until("both know that the other one serves", async () =>
    [await peerOf("b"), await peerOf("a", b)].every(({ serving }) => serving === true),
  );

  const cordoned = await run(a, ["mesh", "peers", "cordon", "b", ...REASON, "--ticket", "OPS-7"]);
  expect(cordoned).toMatchObject({ exit: 0, stdout: expect.stringMatching(/^b +alive +cordoned +"\d+"/m) as string });
  expect(cordoned.stderr).toContain(`sending the operation to b at ${b.grpc}`);
  expect(cordoned.stderr).toContain("b has 0 leased and 0 static entries");
  const refused = await run(b, ["register", ...ENTRY]);
  expect([refused.exit, refused.stderr]).toEqual([1, expect.stringContaining("draining")]);
  await until("a knows it", async () => (await peerOf("b"))["desired"] === "PEER_DESIRED_CORDONED");
  const last = await run(a, ["mesh", "peers", "cordon", "a", ...REASON]);
  expect([last.exit, last.stderr]).toEqual([1, expect.stringContaining("last_ready_node")]);

  const elsewhere = await send(a, "b:uncordon");
  expect([elsewhere.status, JSON.stringify(elsewhere.json)]).toEqual([400, expect.stringContaining(`grpc://${b.grpc}`)]);
  const stale = await send(b, "b:uncordon", { "if-match": '"0"' });
  expect(stale.status).toBe(412);
  const first = await send(b, "b:uncordon", { "idempotency-key": "r-1" });
  expect(first).toMatchObject({ status: 200, json: { peer: { desired: "PEER_DESIRED_ACTIVE" } } });
  expect(await send(b, "b:uncordon", { "idempotency-key": "r-1", "if-match": '"0"' })).toMatchObject({ status: 200, etag: first.etag });

  // A drained node is not in ClusterMap, and is reached all the same.
  expect((await run(a, ["mesh", "peers", "drain", "b", ...REASON, "--watch"])).exit).toBe(0);
  await until("no node has a finding", async () => {
    const status = await run(a, ["status"]);
    return status.exit === 0 && /^b +ready +drained /m.test(status.stdout) ? [] : [status.stdout];
  });
  expect(await run(a, ["audit", "list", "--all-nodes"])).toMatchObject({ exit: 0 });
  expect(await run(a, ["mesh", "peers", "uncordon", "b", ...REASON])).toMatchObject({ exit: 0 });
  await until("a knows that b is active", async () => (await peerOf("b"))["desired"] === "PEER_DESIRED_ACTIVE");
  expect((await run(b, ["register", ...ENTRY])).exit).toBe(0);

  const { promise: isDraining, resolve: begun } = Promise.withResolvers<undefined>();
  const onStdout = (text: string) => {
    if (/^b +alive +leases +1 leases/m.test(text)) begun(undefined);
  };
  const draining = run(a, ["mesh", "peers", "drain", "b", ...REASON, "--watch"], { onStdout });
  await Promise.race([isDraining, draining.then((ended) => Promise.reject(new Error(JSON.stringify(ended))))]);
  expect((await run(b, ["mesh", "peers", "uncordon", "b", "--reason", "not today", "--yes"])).exit).toBe(0);
  const cancelled = await draining;
  expect([cancelled.exit, cancelled.stderr]).toEqual([1, expect.stringContaining("the drain was cancelled")]);

  await b.stop();
  await until("b has left", async () => (await peerOf("b"))["status"] === "PEER_STATUS_LEFT");
  const forgotten = await run(a, ["mesh", "peers", "forget", "b", ...REASON]);
  expect([forgotten.exit, forgotten.stderr]).toEqual([0, expect.stringContaining("forget revokes no certificate or token")]);
});
