/**
 * The guides of DNS: their commands are run, and the settings for other programs are given to these programs.
 *
 * @module-tag path
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { run } from "../../scripts/run.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { freePort } from "../fakes/probed-servers.ts";
import { until } from "../fakes/until.ts";
import { areDnsClientsThere, findCoreDns } from "./needs.ts";

const GUIDE = ["docs/guides/dns.md", "docs/guides/dns-production.md"].map((page) => readFileSync(page, "utf8")).join("\n");
const [hasTools, coreDns] = [await areDnsClientsThere(), await findCoreDns()];
const portOf = (node: NodeProcess, listener = "dns"): string => (node.listeners[listener] ?? "").split(":").at(-1) ?? "";

/** The block of the guide that has this line, without its fences. */
function blockWith(line: string): string {
  const found = [...GUIDE.matchAll(/^```\w*\n([^]*?)^```$/gm)].map(([, block = ""]) => block).find((block) => block.includes(line));
  if (found === undefined) throw new Error(`the guide has no block with ${line}`);
  return found;
}

/** What stands below a comment of the guide, up to the next comment. */
function partBelow(comment: string): string {
  const [, rest = ""] = blockWith(comment).split(comment);
  const below = comment.endsWith("\n") ? rest : rest.replace(/^.*\n/, "");
  return below.split(/\n\n# /)[0] ?? "";
}

/** The lines without what a node makes up, in an order of their own, because records are shuffled. */
function comparable(text: string): readonly string[] {
  const plain = text.replaceAll(/n1\/[\w-]+/g, "LEASE").replaceAll(/"revision":"\d+"/g, "REVISION");
  const lines = plain.split("\n").map((line) => line.trim().replaceAll(/ {2,}/g, " "));
  return lines.filter((line) => line !== "").toSorted();
}

async function withEntries(use: (node: NodeProcess) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "waymark-dns-guide-"));
  const settings = join(folder, "waymark.toml");
  writeFileSync(settings, '[dns]\nreverse_zones = ["10.0.0.0/8"]\n');
  await using node = await startNodeProcess(["--ephemeral", "--node-id", "n1", "--config", settings]);
  rmSync(folder, { recursive: true });
  for (const [kind, namespace, name, target] of [
    ["function", "svc.prod", "charge", "10.1.0.1:9000"],
    ["queue", "svc.prod", "jobs", "10.9.0.7:17420"],
    ["service", "k8s.default", "redis-cart", "10.20.0.20:6379"],
  ] as const) {
    const version = kind === "function" ? ["--version-label", "1.0.0"] : [];
    const what = ["--kind", kind, "--namespace", namespace, "--name", name, "--instance", "1", "--target", target, ...version];
    expect(await node.run(["register", ...what])).toMatchObject({ exit: 0 });
  }
  await use(node);
}

test.skipIf(!hasTools)(
  `dig, nslookup, curl and our commands print what the guide shows${hasTools ? "" : " (skipped: needs kdig, drill, delv and unbound)"}`,
  async () => {
    await withEntries(async (node) => {
      for (const said of blockWith("_rpc._tcp.charge").split(/^\$ /m).slice(1)) {
        const [command = "", ...lines] = said.trim().split("\n");
        const { output } = await run("sh", ["-c", command.replaceAll("17453", portOf(node))]);
        expect([command, output.split("\n").map((line) => line.trim())]).toEqual([command, expect.arrayContaining(lines)]);
      }
      const commands = ["$ waymark dns register web", "DnsService/RegisterName"].flatMap((line) => blockWith(line).split(/^\$ /m).slice(1));
      for (const said of commands) {
        const [command = "", ...lines] = said.trim().split("\n");
        const isOurs = command.startsWith("waymark ");
        const printed = isOurs
          ? (await node.run(command.split(" ").slice(1))).stdout
          : (await run("sh", ["-c", command.replaceAll("17480", portOf(node, "http"))])).output;
        expect([command, comparable(printed)]).toEqual([command, comparable(lines.join("\n"))]);
      }
    });
  },
);

/** Runs a server on the config until it answers for a service as the node does, and for the service's address if that is asked. */
async function checkInFront(
  program: string,
  flags: readonly string[],
  config: (port: number, folder: string) => string,
  [question, says]: readonly [string, string] = ["redis-cart.k8s.default.waymark", "10.20.0.20"],
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "waymark-dns-guide-"));
  const port = await freePort();
  writeFileSync(join(folder, "config"), config(port, folder));
  const child = spawn(program, [...flags, join(folder, "config")], { stdio: "ignore" });
  const exited = once(child, "exit");
  const ask = async () =>
    (await run("kdig", ["@127.0.0.1", "-p", `${port}`, "+short", "+time=1", "+retry=0", ...question.split(" ")])).output.trim();
  try {
    await until(`${program} answers`, async () => (await ask()) === says);
  } finally {
    child.kill("SIGKILL");
    await exited;
    rmSync(folder, { recursive: true });
  }
}

/** The question for the name of the service's address, and its answer. */
const NAME_OF_ADDRESS = ["-x 10.20.0.20", "redis-cart.k8s.default.waymark."] as const;

test.skipIf(!hasTools)(
  `Unbound takes the guide's settings${hasTools ? "" : " (skipped: needs kdig, drill, delv and unbound)"}`,
  async () => {
    await withEntries(async (node) => {
      const own = (port: number, folder: string) =>
        `  directory: "${folder}"\n  chroot: ""\n  username: ""\n  pidfile: ""\n  use-syslog: no\n  interface: 127.0.0.1\n  port: ${port}\n`;
      const zone = `${partBelow("# unbound\n").replaceAll("17453", portOf(node))}\n`;
      const plain = `server:\n  do-not-query-localhost: no\n  domain-insecure: "waymark"\n`;
      const subnets = partBelow("# unbound, built with").trim();
      const inFront = [plain, `${subnets}\n`].map((settings) => {
        expect(settings).toContain("server:\n");
        const config = (port: number, folder: string) => `${settings}${own(port, folder)}${zone}`;
        return checkInFront("unbound", ["-d", "-c"], config);
      });
      const names = `${partBelow("# unbound, names of addresses").replaceAll("17453", portOf(node))}\n`;
      const ofNames = (port: number, folder: string) => `${plain}${own(port, folder)}${names}`;
      await Promise.all([...inFront, checkInFront("unbound", ["-d", "-c"], ofNames, NAME_OF_ADDRESS)]);
    });
  },
);

test.skipIf(!hasTools || coreDns === undefined)(
  `CoreDNS takes the guide's four as they stand, that for Kubernetes too${hasTools && coreDns !== undefined ? "" : " (skipped: needs kdig and CoreDNS)"}`,
  async () => {
    await withEntries(async (node) => {
      const inCluster = blockWith("the ConfigMap coredns").split("Corefile: |\n")[1] ?? "";
      const corefiles = [
        partBelow("# CoreDNS\n"),
        partBelow("# CoreDNS: its cache"),
        partBelow("# CoreDNS, names of addresses"),
        inCluster.replaceAll(/10\.1\.0\.1[12]/g, "127.0.0.1"),
      ];
      const inFront = corefiles.map((corefile) => {
        expect(corefile).toContain("forward . ");
        // A Corefile of the guide stands as it is, but for ports.
        const config = (port: number) =>
          corefile
            .replaceAll("17453", portOf(node))
            .replace(/^( *)([a-z0-9.-]+)(?::53)? \{/m, (_, indent: string, zone: string) => `${indent}${zone}:${port} {`);
        return checkInFront(coreDns ?? "", ["-conf"], config, corefile.includes("arpa") ? NAME_OF_ADDRESS : undefined);
      });
      await Promise.all(inFront);
    });
  },
);
