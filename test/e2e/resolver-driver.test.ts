/** A resolver that reads real nodes: over loopback without TLS, and over TLS with a token. */
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ClusterMapRequestSchema, ClusterMapResponseSchema, DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { PolicyService } from "../../gen/waymark/policy/v1/policy_pb.js";
import type { InstanceName } from "../../src/catalog/query/instances.ts";
import { KIND } from "../../src/catalog/record/record.ts";
import { readToken } from "../../src/lib/named-file.io.ts";
import { resolverChecks } from "../../src/node/resolver/reports.ts";
import { TestAuthority } from "../fakes/certificates.ts";
import { askOf, DrivenResolver } from "../fakes/driven-resolver.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-resolver-driver-"));
const FABRIC_TOKEN = join(HOME, "fabric.token");
writeFileSync(FABRIC_TOKEN, "a-token-of-the-driver-tests\n", { mode: 0o600 });
const DB: InstanceName = { kind: KIND.SERVICE, namespace: "svc.market", name: "db" };
const ELSEWHERE: InstanceName = { kind: KIND.SERVICE, namespace: "other", name: "web" };

function settings(name: string, more: object = {}): string {
  const path = join(HOME, `${name}.json`);
  const fabric = { cluster_token_file: FABRIC_TOKEN, interval: "400ms", ping_timeout: "250ms", join_timeout: "20s" };
  writeFileSync(path, JSON.stringify({ fabric, observability: { log_level: "warn" }, ...more }));
  return path;
}

const start = (nodeId: string, config: string, ...more: readonly string[]) =>
  startNodeProcess(["--ephemeral", "--node-id", nodeId, "--config", config, ...more]);

let [a, b] = [undefined as never as NodeProcess, undefined as never as NodeProcess];
beforeAll(async () => {
  a = await start("a", settings("a"));
  b = await start("b", settings("b"), "--join", a.listeners["fabric"] ?? "");
});
afterAll(async () => {
  await a[Symbol.asyncDispose]();
  await b[Symbol.asyncDispose]();
  rmSync(HOME, { recursive: true, force: true });
});

function transportAt(node: NodeProcess, ca?: Buffer, token?: string) {
  const credential: Interceptor = (next) => (request) => {
    if (token !== undefined) request.header.set("authorization", `Bearer ${token}`);
    return next(request);
  };
  const baseUrl = `${ca === undefined ? "http" : "https"}://${node.grpc}`;
  return createGrpcTransport({ baseUrl, interceptors: [credential], ...(ca && { nodeOptions: { ca } }) });
}

const entry = ({ kind, namespace, name }: InstanceName, instanceId: string) => ({
  key: { kind, namespace, name, instanceId },
  targets: [{ host: "192.0.2.1", port: 80 }],
});

test("it follows, fetches and takes the policy; when its node is killed it goes on at another one without a snapshot, and asks nobody of another cluster", {
  tags: ["night"],
}, async () => {
  const atB = createClient(DiscoveryService, transportAt(b));
  await atB.register({ entries: [entry(DB, "1"), entry(ELSEWHERE, "1")], staticLease: true });
  await using stranger = await start("stranger", settings("stranger"), "--cluster-id", "other");
  using resolver = new DrivenResolver([stranger.grpc, a.grpc, b.grpc]);
  const { machine, driver, calls } = resolver;
  await until("it is ready", () => (machine.isReady ? [] : ["not ready", ...resolver.warnings]));
  await until("it holds what is registered", () => resolver.instances(DB).join() === "1");
  expect(askOf(driver, DB)).toMatchObject({ source: "followed", isStale: false });
  await atB.register({ entries: [entry(DB, "2")], staticLease: true });
  await until("a change arrives", () => resolver.instances(DB).join() === "1,2");

  const [first, second] = [askOf(driver, ELSEWHERE), askOf(driver, ELSEWHERE)];
  expect([first, second].every((answer) => answer instanceof Promise)).toBe(true);
  expect(await Promise.all([first, second])).toMatchObject([{ source: "fetched" }, { source: "fetched" }]);
  expect([resolver.instances(ELSEWHERE), askOf(driver, ELSEWHERE)]).toMatchObject([["1"], { source: "fetched", isStale: false }]);

  const policies = createClient(PolicyService, transportAt(b));
  await policies.applyPolicy({ policy: { version: "v1", defaultAllow: true, rules: [] }, reason: "test" });
  await until("the policy arrives", () => machine.policy.known.length === 1 && machine.isReady);

  await until("the stranger is refused", () =>
    resolver.warnings.some((line) => line.startsWith(`${stranger.grpc}: upstream refused (cluster): it belongs to cluster "other"`)),
  );
  const { bytes: map } = await driver.unary(
    DiscoveryService.method.clusterMap,
    toBinary(ClusterMapRequestSchema, create(ClusterMapRequestSchema, {})),
    5000,
  );
  expect(fromBinary(ClusterMapResponseSchema, map).nodes.map(({ key }) => key?.name)).toEqual(["a", "b"]);

  await atB.register({ entries: [entry(DB, "3")], staticLease: true });
  await until("a bookmark under the policy arrives", () => resolver.instances(DB).includes("3") && machine.bookmarks.isAtBookmark);
  const used = machine.upstreams.current;
  const [lost, left] = used === a.grpc ? [a, b] : [b, a];
  const before = calls.watches.length;
  await lost.stop("SIGKILL");
  await until("the other node is followed", () => machine.upstreams.current === left.grpc && calls.watches.length > before);
  await createClient(DiscoveryService, transportAt(left)).register({ entries: [entry(DB, "4")], staticLease: true });
  await until("a change at the other node arrives", () => resolver.instances(DB).includes("4"));
  expect(calls.watches.slice(before)).toEqual([{ upstream: left.grpc, hasCursor: true, snapshotCount: 0 }]);
  expect(calls.watches.some(({ upstream }) => upstream === stranger.grpc)).toBe(false);
});

test("over TLS it shows its token, again after the file was changed; without one that is good it is not ready", async () => {
  const authority = new TestAuthority(HOME, "authority");
  const { certFile, keyFile } = authority.issue("server");
  const known = join(HOME, "known.token");
  writeFileSync(known, "the-new-token\n", { mode: 0o600 });
  const credentials = [
    { tenant: "resolver", roles: ["mesh.resolve"], token_file: known },
    { tenant: "resolver", roles: ["mesh.resolve"], token_sha256: createHash("sha256").update("the-newest-token").digest("hex") },
    { tenant: "admin", roles: ["mesh.admin"], token_sha256: createHash("sha256").update("token-of-an-admin").digest("hex") },
  ];
  const more = { tls: { cert_file: certFile, key_file: keyFile }, tenants: { mode: true, credentials } };
  await using node = await start("secured", settings("secured", more));
  const admin = createClient(DiscoveryService, transportAt(node, authority.ca, "token-of-an-admin"));
  await admin.register({ entries: [entry(DB, "1")], staticLease: true });

  const tokenFile = join(HOME, "resolver.token");
  writeFileSync(tokenFile, "an-old-token\n", { mode: 0o600 });
  using resolver = new DrivenResolver([node.grpc], { random: () => 0.01 }, () => ({
    tls: { ca: authority.ca },
    token: readToken(tokenFile, "resolver.token_file"),
  }));
  const said = (of: DrivenResolver) => resolverChecks(of.rooms, { isServing: of.machine.isReady, fault: of.driver.fault });
  await until("its token is refused", () =>
    resolver.warnings.some((line) => line.includes("an upstream refuses this resolver: the upstream")),
  );
  expect(resolver.machine.isReady).toBe(false);
  expect(said(resolver).map(({ detail }) => detail)).toEqual([
    "loading",
    expect.stringMatching(
      /^cannot read from any upstream; no data is cached yet; last fault: the upstream \S+ refuses this resolver: unauthenticated: /,
    ),
    "waiting for the current policy from an upstream",
  ]);
  using powerless = new DrivenResolver([node.grpc], {}, () => ({ tls: { ca: authority.ca }, token: "token-of-an-admin" }));
  const isRefused = () =>
    said(powerless).some(({ detail }) => /refuses this resolver: discovery_access_denied: .*mesh\.resolve/.test(detail));
  await until("its role is refused", () => (isRefused() ? [] : [...said(powerless).map(({ detail }) => detail), ...powerless.warnings]));
  writeFileSync(tokenFile, "the-new-token\n", { mode: 0o600 });
  resolver.driver.reload();
  await until("it is ready", () =>
    resolver.machine.isReady && resolver.instances(DB).length === 1 ? [] : ["not ready", ...resolver.warnings],
  );
  expect(said(resolver).map(({ detail }) => detail)).toEqual(["loaded", `reads ${node.grpc}`, "none configured"]);
  // The token is changed, and then the one before is withdrawn: what is open goes on.
  const before = resolver.calls.watches.length;
  writeFileSync(tokenFile, "the-newest-token\n", { mode: 0o600 });
  resolver.driver.reload();
  const again = () => resolver.calls.watches.slice(before);
  await until("its watch goes on with the other token", () => again().length > 0 && resolver.machine.bookmarks.isAtBookmark);
  writeFileSync(known, "a-token-of-nobody\n", { mode: 0o600 });
  node.command.kill("SIGHUP");
  const former = createClient(DiscoveryService, transportAt(node, authority.ca, "the-new-token"));
  await until("the former token is withdrawn", () =>
    former.serverInfo({}).then(
      () => false,
      () => true,
    ),
  );
  await admin.register({ entries: [entry(DB, "2")], staticLease: true });
  await until("a change arrives", () => resolver.instances(DB).length === 2);
  expect([again(), resolver.machine.upstreams.current]).toMatchObject([[{ hasCursor: true, snapshotCount: 0 }], node.grpc]);
  writeFileSync(tokenFile, "no token, because it has spaces\n", { mode: 0o600 });
  expect(() => resolver.driver.reload()).toThrow(/^resolver\.token_file: /);

  using distrustful = new DrivenResolver([node.grpc], {}, () => ({ tls: {}, token: "any" }));
  await until("the certificate is refused", () => distrustful.warnings.some((line) => /certificate/.test(line)));
  using plain = new DrivenResolver([node.grpc], {}, () => ({ tls: undefined, token: "any" }));
  await until("a server of TLS is not reached without", () => plain.warnings.length > 0);
});
