/**
 * Nodes with certificates of step-ca, in files that another program renews.
 *
 * @module-tag night
 */
import { X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { mustRun, ROOT } from "../../scripts/run.ts";
import { TestAuthority } from "../fakes/certificates.ts";
import { waymark } from "../fakes/cli-world.ts";
import { CommandProcess, type NodeProcess, onFreePorts, startNodeProcess, waymarkProcess } from "../fakes/node-process.ts";
import { freePort } from "../fakes/probed-servers.ts";
import { StepCa } from "../fakes/step-ca.ts";
import { until } from "../fakes/until.ts";
import { isGoThere } from "./needs.ts";

const MODULE = "bench/peers/step-ca";
const PROGRAM = join(ROOT, ".cache/interop-step-ca");
const folder = mkdtempSync(join(tmpdir(), "waymark-step-ca-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Builds step-ca, and writes its files: an intermediate that openssl has made. */
async function makeServer(): Promise<{ readonly server: StepCa; readonly rootFile: string }> {
  const path = "github.com/smallstep/certificates/cmd/step-ca";
  await mustRun("go", ["build", "-trimpath", "-o", PROGRAM, path], { cwd: join(ROOT, MODULE), env: { CGO_ENABLED: "0" } });
  const root = new TestAuthority(folder, "step root");
  const extensions = "DNS:ca.example\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign";
  const { certFile, keyFile } = root.issue("step intermediate", extensions);
  const server = new StepCa({ folder, port: await freePort(), rootFile: root.caFile, certFile, keyFile });
  return { server, rootFile: root.caFile };
}

function filesOf(name: string): { readonly certFile: string; readonly keyFile: string } {
  return { certFile: join(folder, `${name}.pem`), keyFile: join(folder, `${name}.key`) };
}

function idOf(name: string): string {
  return `spiffe://prod.example/waymark/cluster/eu/node/${name}`;
}

/** Flags of a node with a certificate for this SPIFFE id. */
async function flagsOf(server: StepCa, rootFile: string, name: string, id = idOf(name)): Promise<readonly string[]> {
  const { certFile, keyFile } = filesOf(name);
  writeFileSync(certFile, await server.sign(server.request(name, "URI", id, keyFile)));
  const config = join(folder, `${name}.json`);
  const fabric = { cert_file: certFile, key_file: keyFile, ca_file: rootFile };
  writeFileSync(config, JSON.stringify({ node: { id: name, cluster_id: "eu" }, identity: { source: "files" }, fabric }));
  return ["--config", config, "--data-dir", join(folder, name)];
}

async function peersAt(node: NodeProcess): Promise<string> {
  return (await waymark(["mesh", "peers", "--server", node.grpc])).stdout;
}

/** Renews a certificate as `step ca renew` does: the new file replaces the old one. */
async function renew(server: StepCa, name: string): Promise<void> {
  const { certFile, keyFile } = filesOf(name);
  writeFileSync(`${certFile}.new`, await server.renew(certFile, keyFile));
  renameSync(`${certFile}.new`, certFile);
}

test.skipIf(!(await isGoThere(MODULE)))(
  "two nodes link with certificates of step-ca, and use renewed ones without ending links (needs Go)",
  async () => {
    const { server, rootFile } = await makeServer();
    await using program = new CommandProcess([server.configFile], "", [], PROGRAM);
    await until("step-ca answers", () => server.isHealthy());
    await using a = await startNodeProcess(await flagsOf(server, rootFile, "a"));
    const joining = ["--join", a.listeners["fabric"] ?? ""];
    const flags = [...(await flagsOf(server, rootFile, "b")), ...joining];
    const b = await startNodeProcess(flags);
    for (const node of [a, b]) await until(`${node.nodeId} is linked`, async () => / yes /.test(await peersAt(node)));
    await until("the certificate of b is announced", async () => {
      const { stdout } = await waymark(["mesh", "peers", "get", "b", "--server", a.grpc, "-o", "json"]);
      return /"source": ?"files"/.test(stdout) && /"issuer": ?"step intermediate"/.test(stdout);
    });

    const serialOf = (name: string) => new X509Certificate(readFileSync(filesOf(name).certFile)).serialNumber;
    for (const { nodeId, command } of [a, b]) {
      const before = serialOf(nodeId);
      await renew(server, nodeId);
      expect(serialOf(nodeId)).not.toBe(before);
      await until(`${nodeId} uses its next certificate`, () => command.stderr.includes("fabric certificates reloaded"));
    }
    for (const { command } of [a, b]) expect(command.stderr).not.toMatch(/link closed|reload failed/);
    expect(await peersAt(a)).toMatch(/^b .* alive .* yes /m);
    // Both nodes present their renewed certificates in a new handshake.
    await b.stop();
    await using again = await startNodeProcess(flags);
    await until("b is linked again", async () => / yes /.test(await peersAt(again)));

    const other = await waymarkProcess(["serve", ...onFreePorts(await flagsOf(server, rootFile, "c", idOf("d")))]);
    expect(other.stderr).toMatch(/^error: fabric\.cert_file: .* belongs to node d of cluster eu, but this is node c/);
    expect(program.isRunning).toBe(true);
  },
);
