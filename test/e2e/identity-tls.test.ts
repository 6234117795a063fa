/** Nodes that serve callers with the certificates of an issuer: names from settings and tokens, all listeners, workers and DNS processes. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "node:tls";
import { afterAll, expect, test } from "vitest";
import { filesAbout } from "../fakes/given-files.ts";
import { type NodeProcess, startNodeProcess, waymarkProcess } from "../fakes/node-process.ts";

const folder = mkdtempSync(join(tmpdir(), "waymark-identity-tls-"));
const file = filesAbout("identity-tls");
afterAll(() => rmSync(folder, { recursive: true }));

const TOKEN = "an-administrator-of-the-mesh";

function settings(more: object): string {
  const tenants = {
    credentials: [{ tenant: "ops", token_file: file("token", TOKEN), roles: ["mesh.admin"] }],
    certificates: [{ principal: "spiffe://waymark.internal/waymark/cluster/local/client/*", tenant: "ops", roles: ["mesh.admin"] }],
  };
  return file("json", JSON.stringify({ tls: { source: "identity" }, tenants, ...more }));
}

async function done(argv: readonly string[]): Promise<string> {
  const { exit, stdout, stderr } = await waymarkProcess(argv);
  expect([exit, exit === 0 ? "" : stderr]).toEqual([0, ""]);
  return stdout;
}

/** Subject and issuer of the certificate of a listener, verified as a client does that dials 127.0.0.1. */
function holder(node: NodeProcess, listener: string, ca: Buffer): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const socket = connect({ host: "127.0.0.1", port: Number(node.listeners[listener]?.split(":")[1]), ca });
  socket.once("secureConnect", () => {
    const { subject, issuer } = socket.getPeerCertificate();
    resolve(`${String(subject.CN)} by ${String(issuer.CN)}, ${socket.getProtocol() ?? ""}`);
    socket.destroy();
  });
  socket.once("error", reject);
  return promise;
}

function readyz(node: NodeProcess, ca: Buffer): Promise<number | undefined> {
  const { promise, resolve, reject } = Promise.withResolvers<number | undefined>();
  const call = request(`https://${node.listeners["http"]}/readyz`, { ca, agent: false }, (reply) => {
    reply.resume();
    resolve(reply.statusCode);
  });
  call.on("error", reject).end();
  return promise;
}

test("an issuer and a node that joined serve callers with their certificates", { tags: ["night"] }, async () => {
  const [ca, first, second] = ["ca", "n1", "n2"].map((name) => join(folder, name)) as [string, string, string];
  await done(["ca", "init", "--node", "n1", "--ca-dir", ca, "--data-dir", first]);
  const names = { identity: { names: ["127.0.0.1"] } };
  await using issuer = await startNodeProcess(["--data-dir", first, "--config", settings(names)]);
  const rootFile = join(first, "identity", "roots.pem");
  const at = (node: NodeProcess) => ["--server", node.grpc, "--ca", rootFile];
  const token = await done(["mesh", "token", "create", "--node", "n2", "--dns-name", "127.0.0.1", ...at(issuer), "--token", TOKEN]);
  const joining = ["--server", issuer.listeners["fabric"] ?? "", "--token-file", file("join", token)];
  await done(["mesh", "join", ...joining, "--data-dir", second]);
  const shared = { node: { workers: 1 }, dns: { processes: 1, tls_port: 0 } };
  await using node = await startNodeProcess(["--data-dir", second, "--config", settings(shared)]);
  const roots = readFileSync(rootFile);
  for (const listener of ["grpc", "http", "dot"]) expect(await holder(node, listener, roots)).toBe("n2 by n1, TLSv1.3");
  expect(await readyz(node, roots)).toBe(200);
  const out = join(folder, "ops");
  await done(["cert", "issue", "--client", "ops", "--out", out, ...at(issuer), "--token", TOKEN]);
  const own = ["--cert", join(out, "cert.pem"), "--key", join(out, "key.pem")];
  // The list of members needs a role, which the certificate of the client gives.
  expect(await done(["mesh", "peers", "list", ...at(node), ...own])).toContain("n1");
  const map = JSON.parse(await done(["discovery", "cluster-map", "-o", "json", ...at(node)])) as {
    nodes: { node: { advertisedUrls: string[] } }[];
  };
  const urls = map.nodes.flatMap((each) => each.node.advertisedUrls).filter((url) => !url.startsWith("fabric"));
  const want = [issuer, node].flatMap(({ listeners }) => [`grpcs://${listeners["grpc"]}`, `https://${listeners["http"]}`]);
  expect(urls.toSorted()).toEqual(want.toSorted());
  const { exit, stderr } = await waymarkProcess(["discovery", "status", ...at(node).with(1, node.grpc.replace("127.0.0.1", "localhost"))]);
  expect([exit, stderr]).toEqual([3, expect.stringContaining("the certificate is for a different name")]);
});
