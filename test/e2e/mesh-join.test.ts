/** Real nodes with certificates of an issuer: from no certificate to two nodes, a killed issuer, and machines that are refused. */
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect as connectHttp2 } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "node:tls";
import { afterAll, expect, test } from "vitest";
import { serverNameOf } from "../../src/lib/certificates/server-names.ts";
import { IdentityDirectory } from "../../src/node/identity/directory.io.ts";
import { followIssuer, joinCluster } from "../../src/node/identity/issuer-client.io.ts";
import { type Ran, waymark } from "../fakes/cli-world.ts";
import { EtcdCluster } from "../fakes/etcd.ts";
import { metricOf } from "../fakes/leader-nodes.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const folder = mkdtempSync(join(tmpdir(), "waymark-join-"));
const dirOf = (name: string) => join(folder, name);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Returns the standard output of a command that must succeed. */
async function outputOf(ran: Promise<Ran>): Promise<string> {
  const { exit, stdout, stderr } = await ran;
  if (exit !== 0) throw new Error(`exit ${exit}: ${stderr}`);
  return stdout;
}

/** Runs a command at a node. */
function on(node: NodeProcess, ...argv: readonly string[]): Promise<string> {
  const names = argv.filter((text) => text.endsWith(".pem"));
  const files = Object.fromEntries(names.map((name) => [name, readFileSync(name, "utf8")]));
  return outputOf(waymark([...argv, "--server", node.grpc], { files }));
}

/** Makes an authority, and starts its first issuer. */
async function startIssuer(name: string, ...flags: readonly string[]): Promise<NodeProcess> {
  const files = ["--ca-dir", dirOf(`${name}-ca`), "--data-dir", dirOf(name)];
  await outputOf(waymark(["ca", "init", "--node", name, "--cluster-id", "eu", ...files]));
  return startNodeProcess(["--data-dir", dirOf(name), ...flags]);
}

function fabricOf({ listeners }: NodeProcess): string {
  return listeners["fabric"] ?? "";
}

function trustFileOf({ nodeId }: NodeProcess): string {
  return join(dirOf(nodeId), "identity", "trust.json");
}

function joined(issuer: NodeProcess, token: string, name: string, ...more: readonly string[]): Promise<Ran> {
  const flags = ["--server", fabricOf(issuer), "--token-file", "T", "--data-dir", dirOf(name)];
  return waymark(["mesh", "join", ...flags, ...more], { files: { T: token } });
}

test("a machine joins with a token, although the issuer is killed before the answer is kept, and its node links to the issuer", async () => {
  const killed = await startIssuer("eu-1");
  const token = (await on(killed, "mesh", "token", "create", "--node", "eu-2")).trim();
  const directory = new IdentityDirectory(dirOf("eu-2"));
  // The answer gets lost. The key is on disk.
  await joinCluster(fabricOf(killed), token, "", directory.nextKey());
  await killed.stop("SIGKILL");
  expect(directory.hasIdentity).toBe(false);

  await using issuer = await startNodeProcess(["--data-dir", dirOf("eu-1")]);
  expect(await joined(issuer, token, "eu-2")).toMatchObject({
    exit: 0,
    stderr: expect.stringMatching(/^this machine is node eu-2 of cluster eu until /) as string,
  });
  const spent = await joined(issuer, token, "eu-3");
  expect(spent.stderr).toMatch(
    /^error: 127\.0\.0\.1:\d+: discovery_access_denied: token: it has been used 1 of 1 times \(token_spent\)\n$/,
  );
  const stranger = await joined(issuer, token.replace(/wmj1\.[0-9a-f]{8}/, "wmj1.00000000"), "eu-3");
  expect(stranger.stderr).toMatch(/does not present the root that the token names/);

  await using node = await startNodeProcess(["--data-dir", dirOf("eu-2")]);
  expect([issuer.nodeId, node.nodeId]).toEqual(["eu-1", "eu-2"]);
  for (const each of [issuer, node])
    await until(`${each.nodeId} links to its peer`, async () => {
      const peers = await on(each, "mesh", "peers");
      return peers.match(/^eu-[12] .* alive .*$/gm)?.length === 2 && / yes /.test(peers);
    });
  const certificates = await on(node, "cert", "list").catch((error: unknown) => String(error));
  expect(certificates).toMatch(/wrong_node: this node issues no certificates; the issuers are at 127\.0\.0\.1:\d+/);
  expect(await on(issuer, "cert", "list")).toMatch(/^node +eu-1 +valid +eu-1 .*\nnode +eu-2 +valid +eu-1 /m);
  expect(await on(issuer, "mesh", "token", "list")).toMatch(/ eu-2 +1\/1 /);
  const joins = (outcome: string) => metricOf(issuer, `waymark_identity_joins_total{outcome="${outcome}"}`);
  expect([await joins("granted"), await joins("token_spent")]).toEqual([1, 1]);
  const thief = { address: fabricOf(issuer), clusterId: "eu", roots: directory.roots, own: directory.nodePem };
  const never = new AbortController().signal;
  let steps = 0;
  const follow = () => followIssuer(thief, () => void (steps += 1), never);
  const following = follow();
  await until("the node follows", () => steps > 0);
  await on(issuer, "mesh", "revoke", "eu-2", "--reason", "stolen");
  expect([await following, await follow()]).toEqual([
    expect.stringMatching(/the credential of this stream was revoked/),
    expect.stringMatching(/Follow needs the certificate of a node or resolver/),
  ]);
  await until("the revoked node is cut", async () => /^eu-2 .* (?:suspect|dead) .* no /m.test(await on(issuer, "mesh", "peers")));
  expect(issuer.command.stderr).toMatch(/the certificate of node eu-2 was revoked/);
  expect(await on(issuer, "cert", "list")).toMatch(/^node +eu-2 +revoked /m);
});

test("a node renews at another issuer when its issuer is revoked, and the revoked issuer stays out", { tags: ["night"] }, async () => {
  await using etcd = await EtcdCluster.start();
  const config = join(folder, "etcd.json");
  writeFileSync(config, JSON.stringify({ store: { kind: "etcd", endpoints: etcd.endpoints } }));
  await using thief = await startIssuer("us-1", "--config", config);
  const second = ["--node", "us-2", "--cluster-id", "eu", "--ca-dir", dirOf("us-1-ca"), "--data-dir", dirOf("us-2")];
  await outputOf(waymark(["ca", "intermediate", ...second]));
  await using issuer = await startNodeProcess(["--data-dir", dirOf("us-2"), "--config", config, "--join", fabricOf(thief)]);
  await until("both issuers are known", async () => (await on(issuer, "ca", "status")).match(/^us-[12] /gm)?.length === 2);
  const token = (await on(thief, "mesh", "token", "create", "--node", "us-3")).trim();
  expect(await joined(thief, token, "us-3")).toMatchObject({ exit: 0 });
  await using node = await startNodeProcess(["--data-dir", dirOf("us-3")]);
  await until("the node has two links", async () => (await on(node, "mesh", "peers")).match(/ yes /g)?.length === 2);
  expect(await on(issuer, "cert", "list")).toMatch(/^node +us-3 +valid +us-1 /m);
  await on(issuer, "mesh", "revoke", "us-1", "--reason", "stolen");
  await until("the node has renewed", async () => /^node +us-3 +valid +us-2 /m.test(await on(issuer, "cert", "list")));
  await until("the thief is out", async () => /^us-1 .* dead .* no /m.test(await on(node, "mesh", "peers")));
  expect(await on(node, "mesh", "peers")).toMatch(/^us-2 .* alive .* yes /m);
  expect(await on(issuer, "ca", "status")).not.toMatch(/^us-1 /m);
});

test("a node that is revoked in its cluster is refused by the nodes of another cluster in the fabric", { tags: ["night"] }, async () => {
  const config = join(folder, "clusters.json");
  writeFileSync(config, JSON.stringify({ fabric: { clusters: ["eu", "nz"] } }));
  const start = (name: string, ...flags: readonly string[]) => startNodeProcess(["--data-dir", dirOf(name), "--config", config, ...flags]);
  await using issuer = await startIssuer("fr-1", "--config", config);
  const other = ["--node", "nz-1", "--cluster-id", "nz", "--ca-dir", dirOf("fr-1-ca"), "--data-dir", dirOf("nz-1")];
  await outputOf(waymark(["ca", "intermediate", ...other]));
  await using abroad = await start("nz-1", "--join", fabricOf(issuer));
  const startJoined = async (at: NodeProcess, name: string) => {
    const token = (await on(at, "mesh", "token", "create", "--node", name)).trim();
    expect(await joined(at, token, name)).toMatchObject({ exit: 0 });
    return start(name, "--join", fabricOf(issuer));
  };
  await using node = await startJoined(issuer, "fr-2");
  await using thief = await startJoined(abroad, "nz-2");
  for (const each of [issuer, node])
    await until(`${each.nodeId} links to the other cluster`, async () => / nz-2 |^nz-2 /m.test(await on(each, "mesh", "peers")));
  await on(abroad, "mesh", "revoke", "nz-2", "--reason", "stolen");
  for (const each of [issuer, node])
    await until(`${each.nodeId} knows the revocation`, () => /revocations\/name\/node\/nz-2/.test(readFileSync(trustFileOf(each), "utf8")));
  for (const each of [issuer, node])
    await until(`${each.nodeId} has cut the thief`, async () => /^nz-2 .* (?:suspect|dead) .* no /m.test(await on(each, "mesh", "peers")));
  expect(thief.nodeId).toBe("nz-2");
});

test("a resolver and a program use certificates of an issuer, callers' tokens count at once, and all of them can be revoked", {
  tags: ["night"],
}, async () => {
  const config = join(folder, "callers.json");
  // Callers are served by a read worker, which gets tokens and revocations from the main thread.
  const settings = { node: { workers: 1 }, tls: { source: "identity" }, identity: { names: ["127.0.0.1"] }, tenants: { managed: true } };
  writeFileSync(config, JSON.stringify(settings));
  await using issuer = await startIssuer("ap-1", "--config", config);
  const trust = ["--ca", new IdentityDirectory(dirOf("ap-1")).rootsFile];
  const operator = readFileSync(join(dirOf("ap-1"), "operator.token"), "utf8").trim();
  const asOperator = (...argv: readonly string[]) => on(issuer, ...argv, ...trust, "--token", operator);
  const token = (await asOperator("mesh", "token", "create", "--role", "resolver", "--node", "r-1")).trim();
  expect(await joined(issuer, token, "r-1")).toMatchObject({ exit: 0 });
  const own = join(folder, "resolver.json");
  writeFileSync(own, JSON.stringify({ resolver: { upstreams: [issuer.grpc], namespaces: ["svc.shop"] } }));
  await using resolver = await startNodeProcess(["--mode", "resolver", "--data-dir", dirOf("r-1"), "--config", own]);
  expect(resolver.nodeId).toBe("r-1");
  const files = dirOf("billing");
  await asOperator("cert", "issue", "--client", "billing", "--out", files);
  const asProgram = () => on(issuer, "discovery", "query", ...trust, "--cert", join(files, "cert.pem"), "--key", join(files, "key.pem"));
  expect(await asProgram()).toMatch(/grpcs/);
  const caller = (await asOperator("auth", "token", "create", "--principal", "deployer", "--role", "mesh.operate")).trim();
  const asCaller = () => on(issuer, "audit", "list", ...trust, "--token", caller);
  await until("the token counts", () =>
    asCaller().then(
      () => true,
      () => false,
    ),
  );
  await asOperator("auth", "token", "revoke", caller.split(".")[1] ?? "", "--reason", "leaked");
  await until("the token is refused", () =>
    asCaller().then(
      () => false,
      (error: unknown) => /token is unknown/.test(String(error)),
    ),
  );
  await asOperator("mesh", "revoke", "billing", "--role", "client", "--reason", "leaked");
  await until("the program is refused", () =>
    asProgram().then(
      () => false,
      (error: unknown) => /client billing was revoked/.test(String(error)),
    ),
  );
  await asOperator("mesh", "revoke", "r-1", "--role", "resolver", "--reason", "stolen");
  await until("the resolver is refused", () => /refuses this resolver/.test(resolver.command.stderr));
});

// A certificate lives for at least a minute.
test("strangers use up their own connections and requests at the join endpoint, and a node renews nevertheless", {
  tags: ["night"],
}, async () => {
  await using issuer = await startIssuer("au-1");
  const token = (await on(issuer, "mesh", "token", "create", "--uses", "2")).trim();
  expect(await joined(issuer, token, "au-2", "--node-id", "au-2")).toMatchObject({ exit: 0 });
  const client = dirOf("au-client");
  await on(issuer, "cert", "issue", "--client", "au", "--out", client);
  const { port } = new URL(`tcp://${fabricOf(issuer)}`);
  const own = { cert: readFileSync(join(client, "cert.pem")), key: readFileSync(join(client, "key.pem")) };
  const servername = serverNameOf("eu", "issuer");
  const sockets = Array.from({ length: 80 }, (_, i) =>
    connect({
      host: "127.0.0.1",
      port: Number(port),
      servername,
      ALPNProtocols: ["h2"],
      rejectUnauthorized: false,
      ...(i % 2 === 0 && own),
    }),
  );
  let closed = 0;
  for (const socket of sockets) socket.on("error", () => {}).on("close", () => void (closed += 1));
  await until("those above the limit of one network are closed", () => closed === 80 - 64);
  const refused = await metricOf(issuer, 'waymark_connections_refused_total{listener="fabric",reason="limit"}');
  expect(refused).toBe(16);
  expect((await joined(issuer, token, "au-3", "--node-id", "au-3")).stderr).toMatch(/^error: 127\.0\.0\.1:\d+: /);
  expect(await waymark(["cert", "renew", "--data-dir", dirOf("au-2")])).toMatchObject({ exit: 0 });
  for (const socket of sockets) socket.destroy();
  await until("a newcomer joins again", async () => (await joined(issuer, token, "au-3", "--node-id", "au-3")).exit === 0);

  const url = `https://${fabricOf(issuer)}`;
  const junk = connectHttp2(url, { servername, rejectUnauthorized: false });
  const headers = {
    ":method": "POST",
    ":path": "/waymark.control.v1.JoinService/Join",
    "content-type": "application/grpc",
    te: "trailers",
  };
  const send = () => once(junk.request(headers).resume().end(Buffer.alloc(5)), "close");
  const end = new AbortController();
  const flood = async () => {
    while (!end.signal.aborted) await Promise.all(Array.from({ length: 50 }, send));
    junk.destroy();
  };
  const flooding = flood();
  const stranger = async () => (await joined(issuer, token, "au-4", "--node-id", "au-4")).stderr;
  await until("strangers are limited", async () => /discovery_rate_limited: too many requests/.test(await stranger()));
  expect(await waymark(["cert", "renew", "--data-dir", dirOf("au-2")])).toMatchObject({ exit: 0 });
  end.abort();
  await flooding;
});

test("a mesh does not part when its issuer is away past the end of all certificates", { tags: ["night"] }, async () => {
  const config = join(folder, "short.json");
  writeFileSync(config, JSON.stringify({ identity: { leaf_ttl: "1m" } }));
  const issuer = await startIssuer("sa-1", "--config", config);
  const start = async (name: string) => {
    const token = await on(issuer, "mesh", "token", "create", "--node", name);
    expect(await joined(issuer, token, name)).toMatchObject({ exit: 0 });
    return startNodeProcess(["--data-dir", dirOf(name)]);
  };
  await using one = await start("sa-2");
  await using two = await start("sa-3");
  const nodes = [one, two];
  const isLinked = async (node: NodeProcess, peer: string) =>
    new RegExp(`^${peer} .* alive .* yes `, "m").test(await on(node, "mesh", "peers"));
  await until("the nodes are linked", async () => (await isLinked(one, "sa-3")) && (await isLinked(two, "sa-2")));
  const { port } = new URL(`tcp://${fabricOf(issuer)}`);
  await issuer.stop("SIGKILL");
  const endsMs = Math.max(...nodes.map(({ nodeId }) => new IdentityDirectory(dirOf(nodeId)).read().expiresWallMs));
  await until("all certificates have ended", () => Date.now() > endsMs, 120_000);
  // A node that reads its certificates again makes new connections for its probes.
  const failed = () => metricOf(one, 'mesh_gossip_messages_total{direction="sent",outcome="failed"}');
  process.kill(one.command.pid, "SIGHUP");
  const before = await failed();
  await until("twenty probes have failed", async () => (await failed()) > before + 20);
  for (const { command } of nodes) expect(command.stderr).not.toMatch(/"nodeId":"sa-[23]".*"status":"(?:suspect|dead)"/);
  expect([await isLinked(one, "sa-3"), await isLinked(two, "sa-2")]).toEqual([true, true]);

  await using again = await startNodeProcess(["--data-dir", dirOf("sa-1"), "--config", config, "--fabric-port", port]);
  for (const peer of ["sa-2", "sa-3"]) await until(`${peer} is back`, () => isLinked(again, peer));
});

test("a node and its issuer renew their certificates, and their links stay open", { tags: ["night"] }, async () => {
  const config = join(folder, "settings.json");
  writeFileSync(config, JSON.stringify({ identity: { leaf_ttl: "1m" } }));
  await using issuer = await startIssuer("eu-5", "--config", config);
  const token = await on(issuer, "mesh", "token", "create", "--node", "eu-6");
  expect(await joined(issuer, token, "eu-6")).toMatchObject({ exit: 0 });
  await using node = await startNodeProcess(["--data-dir", dirOf("eu-6")]);
  const filesOf = () => ["eu-5", "eu-6"].map((name) => readFileSync(new IdentityDirectory(dirOf(name)).nodeFile, "utf8"));
  let before = filesOf();
  for (const time of ["first", "second"]) {
    await until(`the ${time} renewals`, () => filesOf().every((file, at) => file !== before[at]), 120_000);
    before = filesOf();
  }
  for (const { command } of [issuer, node]) {
    expect(command.stderr).toMatch(/"msg":"certificate renewed"/);
    expect(command.stderr).not.toMatch(/not renewed|link closed|"status":"(?:suspect|dead)"/);
  }
  expect(await on(node, "mesh", "peers")).toMatch(/ yes /);
});
