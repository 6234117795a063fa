/**
 * Nodes get their certificates from a SPIFFE agent: a program of go-spiffe serves the Workload API.
 *
 * @module-tag night
 */
import { X509Certificate } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { mustRun, ROOT } from "../../scripts/run.ts";
import { waymark } from "../fakes/cli-world.ts";
import { CommandProcess, type NodeProcess, onFreePorts, startNodeProcess, waymarkProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";
import { isGoThere } from "./needs.ts";

const GO = join(ROOT, "test/interop/go");
const GO_PROGRAM = join(ROOT, ".cache/interop-go-spire");
const folder = mkdtempSync(join(tmpdir(), "waymark-spire-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Flags of a node or resolver that asks an agent of its own. */
function flagsOf(name: string, more: object = {}): readonly string[] {
  const config = join(folder, `${name}.json`);
  writeFileSync(config, JSON.stringify({ identity: { source: "spire", spire_socket: socketOf(name) }, ...more }));
  return ["--config", config, "--data-dir", join(folder, name)];
}

function socketOf(name: string): string {
  return join(folder, `${name}.sock`);
}

function idOf(name: string, role = "node"): string {
  return `spiffe://waymark.internal/waymark/cluster/eu/${role}/${name}`;
}

/** Starts an agent for each name. */
async function startAgent(given: Readonly<Record<string, string>>): Promise<CommandProcess> {
  mkdirSync(join(ROOT, ".cache"), { recursive: true });
  await mustRun("go", ["build", "-o", GO_PROGRAM, "./spire"], { cwd: GO });
  const sockets = Object.entries(given).map(([name, id]) => `${socketOf(name)}=${id}`);
  const agent = new CommandProcess(sockets, "", [], GO_PROGRAM);
  await agent.line(/^serving/);
  return agent;
}

function fileOf({ nodeId }: NodeProcess): string {
  return readFileSync(join(folder, nodeId, "identity", "node.pem"), "utf8");
}

async function peersAt(node: NodeProcess): Promise<string> {
  return (await waymark(["mesh", "peers", "--server", node.grpc])).stdout;
}

test.skipIf(!(await isGoThere()))(
  "two nodes link with certificates of an agent, use the next ones, and start again without the agent (needs Go)",
  async () => {
    await using agent = await startAgent({ a: idOf("a"), b: idOf("b"), c: "spiffe://waymark.internal/other" });
    await using a = await startNodeProcess(flagsOf("a"));
    const joining = ["--join", a.listeners["fabric"] ?? ""];
    const b = await startNodeProcess([...flagsOf("b"), ...joining]);
    for (const node of [a, b]) await until(`${node.nodeId} is linked`, async () => / yes /.test(await peersAt(node)));
    await until("the certificate of b is announced", async () => {
      const { stdout } = await waymark(["mesh", "peers", "get", "b", "--server", a.grpc, "-o", "json"]);
      return /"source": ?"spire"/.test(stdout) && /"issuer": ?"spire intermediate"/.test(stdout);
    });

    const before = [a, b].map(fileOf);
    agent.kill("SIGHUP");
    await until("both nodes use their next certificates", () =>
      [a, b].every((node, i) => fileOf(node) !== before[i] && node.command.stderr.includes("fabric certificates reloaded")),
    );
    for (const { command } of [a, b]) expect(command.stderr).not.toMatch(/link closed|reload failed/);

    const refused = await waymarkProcess(["serve", ...onFreePorts(flagsOf("c"))]);
    expect(refused).toMatchObject({ exit: 2, stderr: expect.stringMatching(/got spiffe:\/\/waymark\.internal\/other/) as string });

    agent.kill("SIGKILL");
    await agent.finished();
    await b.stop();
    await using again = await startNodeProcess([...flagsOf("b"), ...joining]);
    for (const node of [a, again])
      await until(`${node.nodeId} is linked again`, async () => /^[ab] .* alive .* yes /m.test(await peersAt(node)));
    await until("the lost agent is reported", () => again.command.stderr.includes("the SPIFFE agent gives no certificates"));
    rmSync(join(folder, "b", "identity"), { recursive: true });
    const alone = await waymarkProcess(["serve", ...onFreePorts(flagsOf("b"))]);
    expect(alone.stderr).toMatch(/^error: identity\.spire_socket: .*b\.sock: connect E(?:NOENT|CONNREFUSED)/);
  },
);

test.skipIf(!(await isGoThere()))(
  "a resolver reads with a certificate of an agent, and with the next one before the first has ended (needs Go)",
  async () => {
    await using agent = await startAgent({ d: idOf("d"), r: `${idOf("r", "resolver")}=20s` });
    const certificates = [{ principal: idOf("*", "resolver"), roles: ["mesh.resolve"] }];
    await using node = await startNodeProcess(flagsOf("d", { tls: { source: "identity" }, tenants: { certificates } }));
    const upstream = node.grpc.replace("127.0.0.1", "localhost");
    const reading = { node: { mode: "resolver" }, resolver: { upstreams: [upstream], namespaces: ["svc"] } };
    await using resolver = await startNodeProcess(flagsOf("r", reading));
    expect(resolver.nodeId).toBe("r");
    const { validToDate } = new X509Certificate(fileOf(resolver));
    await until("the first certificate has ended", () => Date.now() > validToDate.getTime() + 2000);
    const operator = readFileSync(join(folder, "d", "operator.token"), "utf8").trim();
    const roots = join(folder, "d", "identity", "roots.pem");
    const named = ["--namespace", "svc", "--name", "web", "--instance", "web-1", "--target", "10.0.0.1:80"];
    const registered = await waymarkProcess(["register", ...named, "--server", upstream, "--ca", roots, "--token", operator]);
    expect(registered).toMatchObject({ exit: 0 });
    await until("the resolver has the entry", async () => /10\.0\.0\.1/.test((await resolver.run(["discovery", "query"])).stdout));
    expect(resolver.command.stderr).not.toMatch(/refuses this resolver/);
    expect(agent.isRunning).toBe(true);
  },
);
