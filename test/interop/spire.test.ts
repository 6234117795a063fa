/**
 * Nodes get their certificates from a SPIFFE agent: a program of go-spiffe serves the Workload API.
 *
 * @module-tag night
 */
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

/** Flags of a node that asks an agent of its own. */
function flagsOf(name: string): readonly string[] {
  const config = join(folder, `${name}.json`);
  writeFileSync(config, JSON.stringify({ identity: { source: "spire", spire_socket: socketOf(name) } }));
  return ["--config", config, "--data-dir", join(folder, name)];
}

function socketOf(name: string): string {
  return join(folder, `${name}.sock`);
}

function idOf(name: string): string {
  return `spiffe://waymark.internal/waymark/cluster/eu/node/${name}`;
}

async function peersAt(node: NodeProcess): Promise<string> {
  return (await waymark(["mesh", "peers", "--server", node.grpc])).stdout;
}

test.skipIf(!(await isGoThere()))(
  "two nodes link with certificates of an agent, use the next ones, and start again without the agent (needs Go)",
  async () => {
    mkdirSync(join(ROOT, ".cache"), { recursive: true });
    await mustRun("go", ["build", "-o", GO_PROGRAM, "./spire"], { cwd: GO });
    const given = { a: idOf("a"), b: idOf("b"), c: "spiffe://waymark.internal/other" };
    await using agent = new CommandProcess(
      Object.entries(given).map(([name, id]) => `${socketOf(name)}=${id}`),
      "",
      [],
      GO_PROGRAM,
    );
    await agent.line(/^serving/);
    await using a = await startNodeProcess(flagsOf("a"));
    const joining = ["--join", a.listeners["fabric"] ?? ""];
    const b = await startNodeProcess([...flagsOf("b"), ...joining]);
    for (const node of [a, b]) await until(`${node.nodeId} is linked`, async () => / yes /.test(await peersAt(node)));
    const { stdout } = await waymark(["mesh", "peers", "get", "b", "--server", a.grpc, "-o", "json"]);
    expect(JSON.parse(stdout)).toMatchObject({ security: { source: "spire", issuer: "spire intermediate" } });

    const fileOf = ({ nodeId }: NodeProcess) => readFileSync(join(folder, nodeId, "identity", "node.pem"), "utf8");
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
