/** A node that its seeds turn away: never ready by itself, says who refused it and why, and takes no writes; real processes. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { JsonObject } from "@bufbuild/protobuf";
import { afterAll, expect, test } from "vitest";
import type { FabricTls } from "../../src/fabric/transport/peer-identity.io.ts";
import { FabricAuthority } from "../fakes/fabric-transport.ts";
import { GrpcDoor } from "../fakes/node.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { readyz, UnreadyNode } from "../fakes/unready-node.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-refused-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));

/** After this a node that nobody answers serves alone. */
const JOIN_TIMEOUT_MS = 3000;
const FAST = { interval: "400ms", ping_timeout: "250ms", join_timeout: `${JOIN_TIMEOUT_MS}ms` };

function file(name: string, content: string | Uint8Array): string {
  const path = join(HOME, name);
  writeFileSync(path, content, { mode: 0o600 });
  return path;
}

function token(name: string, secret: string): JsonObject {
  return { cluster_token_file: file(`${name}.token`, `${secret}\n`) };
}

function certificates(name: string, tls: FabricTls): JsonObject {
  return {
    cert_file: file(`${name}.cert`, tls.cert),
    key_file: file(`${name}.key`, tls.key),
    ca_file: file(`${name}.ca`, tls.clientCa),
  };
}

function flags(nodeId: string, fabric: JsonObject, clusterId = "c1"): readonly string[] {
  const config = file(`${nodeId}.json`, JSON.stringify({ fabric: { ...FAST, ...fabric } }));
  return ["--ephemeral", "--node-id", nodeId, "--cluster-id", clusterId, "--region", "eu", "--config", config];
}

async function tryToRegister(node: UnreadyNode): Promise<{ readonly code: string; readonly reason?: string | undefined }> {
  using door = new GrpcDoor(node.grpc);
  const entry = { key: { kind: "ENTRY_KIND_SERVICE", namespace: "svc.market", name: "web", instanceId: "1" } };
  return await door.ask("register", { entries: [entry], staticLease: true });
}

/** Not ready before and after the join timeout, with the seed and the reason named; a write is refused. */
async function staysOut(node: UnreadyNode, seed: string, why: string): Promise<void> {
  const wanted = [/^503 /, `refused by ${seed}`, why, "without seeds"];
  const lacking = async () => {
    const said = await readyz(node.http);
    return wanted.every((part) => (typeof part === "string" ? said.includes(part) : part.test(said))) ? [] : [said];
  };
  await until(`it says that ${seed} refuses it`, lacking);
  expect(await tryToRegister(node)).toMatchObject({
    code: "UNAVAILABLE",
    reason: "not_ready",
    message: expect.stringContaining("refused by") as string,
  });
  await expect(node.command.line(/"event":"ready"/, 2 * JOIN_TIMEOUT_MS)).rejects.toThrow(/no line like/);
  expect(await lacking()).toEqual([]);
}

const AUTHORITY = new FabricAuthority();

/** Who refuses. */
const SEEDS = {
  token: token("token", "a-token-of-the-cluster"),
  certificates: certificates("certificates", AUTHORITY.issue("certificates")),
  open: {},
  hospitable: { trust: "explicit", clusters: ["c2"] },
} as const satisfies Record<string, JsonObject>;

/** Who is refused by which seed, and what it says of that. */
const REFUSALS: readonly {
  readonly what: string;
  readonly by: keyof typeof SEEDS;
  readonly joiner: JsonObject;
  readonly clusterId?: string;
  readonly listener?: string;
  readonly why: string;
}[] = [
  { what: "another token", by: "token", joiner: token("j0", "a-token-of-another"), why: "different cluster token" },
  {
    what: "a certificate of another authority",
    by: "certificates",
    joiner: certificates("j1", new FabricAuthority().issue("j1")),
    why: "certificate",
  },
  {
    what: "a certificate that the seed does not know, though it knows the seed's",
    by: "certificates",
    joiner: certificates("j2", { ...new FabricAuthority().issue("j2"), clientCa: AUTHORITY.ca }),
    why: "",
  },
  { what: "no TLS at a seed with TLS", by: "certificates", joiner: {}, why: "requires TLS" },
  { what: "TLS at a seed without", by: "open", joiner: certificates("j4", AUTHORITY.issue("j4")), why: "" },
  { what: "a cluster that the seed does not let in", by: "open", joiner: {}, clusterId: "c2", why: "fabric.clusters" },
  { what: "a seed of a cluster that it does not let in itself", by: "hospitable", joiner: {}, clusterId: "c2", why: "fabric.clusters" },
  { what: "the gRPC listener", by: "open", joiner: {}, listener: "grpc", why: "not a fabric listener" },
  { what: "the HTTP listener", by: "open", joiner: {}, listener: "http", why: "not a fabric listener" },
];

test("who is refused is not ready, names the seed and why, and takes no writes, also after join_timeout", { tags: ["night"] }, async () => {
  await using parts = new AsyncDisposableStack();
  const names = Object.keys(SEEDS) as (keyof typeof SEEDS)[];
  const seeds: NodeProcess[] = [];
  for (const name of names) seeds.push(parts.use(await startNodeProcess(flags(name, SEEDS[name]))));
  // None rejects: who starts after another has failed would be nobody's.
  const wrong = await Promise.all(
    REFUSALS.map(async ({ what, by, joiner: ofJoiner, clusterId = "c1", listener = "fabric", why }, row) => {
      const address = seeds[names.indexOf(by)]?.listeners[listener] ?? "";
      let said = () => "";
      try {
        const joiner = parts.use(await UnreadyNode.start([...flags(`j${row}`, ofJoiner, clusterId), "--join", address]));
        said = () => joiner.command.stderr;
        await staysOut(joiner, address, why);
        return [];
      } catch (error) {
        return [`${what}: ${String(error)}; it said: ${said()}`];
      }
    }),
  );
  expect(wrong.flat()).toEqual([]);
});

test("once it is let in it is ready and has everything; a node that was ready and is refused later serves on, and says so", async () => {
  const [right, wrong] = ["a-token-of-the-cluster", "a-token-of-another"];
  await using seed = await startNodeProcess(flags("s20", token("s20", right)));
  const address = seed.listeners["fabric"] ?? "";
  await using joiner = await UnreadyNode.start([...flags("j20", token("j20", wrong)), "--join", address]);
  await until("it is refused", async () => (await readyz(joiner.http)).includes(`refused by ${address}`));
  token("j20", right);
  joiner.command.kill("SIGHUP");
  await joiner.command.line(/"event":"ready"/);
  await until("it is a member", async () => (await readyz(joiner.http)).startsWith("200 "));
  expect(await readyz(joiner.http)).not.toContain("refused by");
  expect((await tryToRegister(joiner)).code).toBe("OK");

  token("s20", wrong);
  seed.command.kill("SIGHUP");
  await seed.command.errorLine(/cluster token reloaded/);
  // Links that are up stay; the seed that comes back knows nobody, and greets with what it has now.
  await using again = await restarted(seed, "s20");
  expect(again.listeners["fabric"]).toBe(address);
  await until("it says so", async () => {
    const said = await readyz(joiner.http);
    return said.startsWith("200 ") && said.includes(`refused by ${address}`) ? [] : [said];
  });
  expect((await tryToRegister(joiner)).code).toBe("OK");
});

/** The same node with the same settings at the same address. */
async function restarted(node: NodeProcess, nodeId: string): Promise<NodeProcess> {
  await node.stop("SIGKILL");
  const port = node.listeners["fabric"]?.split(":").at(-1) ?? "";
  const config = ["--config", join(HOME, `${nodeId}.json`), "--fabric-port", port];
  return startNodeProcess(["--ephemeral", "--node-id", nodeId, "--cluster-id", "c1", "--region", "eu", ...config]);
}
