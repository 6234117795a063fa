/** The commands of the runbooks, and the commands that findings print, run against two nodes whose settings differ. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { EXIT } from "../../src/cli/exit.ts";
import { ALL_VERBS as VERBS } from "../../src/cli/table/full.ts";
import { findingsOf, type NodeFacts } from "../../src/node/findings/findings.ts";
import { TestAuthority } from "../fakes/certificates.ts";
import { type Ran, waymark } from "../fakes/cli-world.ts";
import { isDigThere } from "../fakes/dig.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const FOLDER = mkdtempSync(join(tmpdir(), "waymark-runbooks-"));
/** The files of the commands that read some. */
const FILES = {
  "/etc/waymark/node.toml": "",
  "node.toml": "",
  "resolver.toml": '[node]\nmode = "resolver"\n[resolver]\nupstreams = ["127.0.0.1:17420"]\n',
};
/** Commands that write keys into the directory of their caller. Only their flags are checked. */
const WRITING = ["ca init", "ca intermediate", "mesh join"];
/** A command that follows changes is interrupted after this time (ms). */
const FOLLOW_MS = 500;
let n1: NodeProcess;
let n2: NodeProcess;

beforeAll(async () => {
  const start = (nodeId: string, settings: object, ...flags: readonly string[]) => {
    const config = join(FOLDER, `${nodeId}.json`);
    writeFileSync(config, JSON.stringify(settings));
    return startNodeProcess(["--ephemeral", "--node-id", nodeId, "--cluster-id", "c1", "--config", config, ...flags]);
  };
  n1 = await start("n1", {});
  n2 = await start("n2", { limits: { reads_per_minute: 600_000 } }, "--join", n1.listeners["fabric"] ?? "");
});
afterAll(async () => {
  for (const node of [n1, n2]) await node?.[Symbol.asyncDispose]();
  rmSync(FOLDER, { recursive: true, force: true });
});

/** Replaces the placeholders of the runbooks: addresses, then names. */
function filled(command: string): string {
  return command
    .replace(" … ", " ")
    .replaceAll(/--server \S+/g, `--server ${n1.grpc}`)
    .replaceAll(/\S+:17421/g, "127.0.0.1:1")
    .replaceAll(/\blocalhost:17480|\b[A-Z]+:17480/g, n1.listeners["http"] ?? "")
    .replaceAll("127.0.0.1 -p 17453", (n1.listeners["dns"] ?? "").replace(":", " -p "))
    .replaceAll(/\bNODE-B\b/g, "n2")
    .replaceAll(/\b[A-Z-]*NODE[A-Z-]*\b/g, "n1")
    .replaceAll("NAMESPACE/ID", "svc.market/1")
    .replaceAll(/\b(NAMESPACE|NS)\b|<namespace>/g, "svc.market")
    .replaceAll(/\bPLAN\b/g, "svc.market/41-1f0c9a3e")
    .replaceAll(/\bNEWEST\b/g, "1")
    .replaceAll(/\bDATA_DIR\b/g, FOLDER)
    .replaceAll(/\bFILE\b/g, "node.toml");
}

/** Runs a command of Waymark in this process, as on a terminal. */
function runCommand(command: string): Promise<Ran> {
  const words = [...filled(command).matchAll(/'([^']*)'|"([^"]*)"|(\S+)/g)].map(
    ([, single, double, bare]) => single ?? double ?? bare ?? "",
  );
  const argv = words.slice(1);
  const isEndless = argv.some((word) => word === "watch" || word === "--watch");
  return waymark(argv.includes("--server") ? argv : [...argv, "--server", n1.grpc], {
    files: FILES,
    typed: "y",
    ...(isEndless && { interrupt: AbortSignal.timeout(FOLLOW_MS) }),
  });
}

function unknownFlags(command: string, path: string): readonly string[] {
  const known = VERBS.find((verb) => verb.path === path)?.flags ?? [];
  const names = ["--server", ...known.map(({ flags }) => flags.split(" ")[0])];
  return (command.match(/--[\w-]+/g) ?? []).filter((flag) => !names.includes(flag));
}

/** The commands that the server or the command line does not understand, with their errors. Others may fail, because nothing is wrong here. */
async function faultsOf(commands: readonly string[]): Promise<readonly string[]> {
  const faults: string[] = [];
  for (const command of commands) {
    const writing = WRITING.find((path) => command.startsWith(`waymark ${path} `));
    if (writing !== undefined) {
      faults.push(...unknownFlags(command, writing).map((flag) => `${command}: unknown flag ${flag}`));
      continue;
    }
    // Ids in capital letters are for the reader to replace, and have no valid form of their own.
    const { exit, stderr } = await runCommand(command.replace("token revoke ID", "token revoke local:000000000000"));
    const isWrong = exit === EXIT.usage || exit === EXIT.unreachable || stderr.includes("invalid_argument");
    if (isWrong) faults.push(`${command}: ${stderr}`);
  }
  return faults;
}

const PAGES = readdirSync("docs/runbooks").filter((page) => page !== "README.md");

/** The lines of a page's code blocks without comments, except settings. */
function blockLines(text: string): readonly string[] {
  const blocks = [...text.matchAll(/^ *```(?:text|sh)\n(.*?)^ *```$/gms)].map(([, body = ""]) => body);
  return blocks.flatMap((body) => body.split("\n").map((line) => line.replace(/ # .*/, "").trim())).filter((line) => line !== "");
}

/** Spans of code with a placeholder or a flag are whole commands. Others only name a command. */
function spans(text: string): readonly string[] {
  const prose = text.replaceAll(/^ *```.*?^ *```$/gms, "");
  const named = [...prose.matchAll(/`(waymark [^`]+)`/g)].map(([, command = ""]) => command.replaceAll(/\s+/g, " "));
  return named.filter((command) => / -|\b[A-Z]{2,}\b/.test(command));
}

test.each(PAGES)("the commands of %s run", async (page) => {
  const text = readFileSync(join("docs/runbooks", page), "utf8");
  const lines = blockLines(text).flatMap((line) => /(?<![\w.])waymark [^|;>]+/.exec(line)?.[0] ?? []);
  expect(await faultsOf([...new Set([...lines, ...spans(text)])])).toEqual([]);
});

test.skipIf(!isDigThere())("the commands of other programs run", () => {
  const { caFile } = new TestAuthority(FOLDER, "ca");
  const lines = PAGES.flatMap((page) => blockLines(readFileSync(join("docs/runbooks", page), "utf8")));
  const others = lines.filter((line) => /^(curl|df|dig|openssl) /.test(line));
  expect(others.length).toBeGreaterThan(5);
  const failed = [...new Set(others.map((line) => filled(line.replace("-in FILE", `-in ${caFile}`))))].flatMap((script) => {
    const { status, stderr } = spawnSync("sh", ["-c", script], { cwd: FOLDER, encoding: "utf8" });
    return status === 0 ? [] : [`${script}: ${stderr}`];
  });
  expect(failed).toEqual([]);
});

const NOW = Date.parse("2026-11-30T12:00:00Z");
const ORIGIN = { nodeId: "n2", generation: 1, life: "live", through: 1, known: 1, floor: 0, refused: 0, whyPartial: "limit" } as const;
/** Facts that cause each finding of a node. */
const ALL_WRONG: NodeFacts = {
  nodeId: "n1",
  version: "1.0.0",
  wallMs: NOW,
  faults: [{ name: "clock", detail: "3 s ahead" }],
  lag: { ageMs: 60_000, isProtected: true, origins: [ORIGIN] },
  store: { kind: "etcd", ageMs: 20_000, fault: "split brain: n2 uses s2" },
  leader: "",
  certificates: [
    { setting: "tls.cert_file", endWallMs: NOW - 1, lifeMs: 90 * 86_400_000, isRenewed: false },
    { setting: "fabric.cert_file", endWallMs: NOW + 1, lifeMs: 90 * 86_400_000, isRenewed: false },
    { setting: "identity/node.pem", endWallMs: NOW + 1, lifeMs: 86_400_000, isRenewed: true },
  ],
  issuerEndWallMs: NOW + 1,
  followAgeMs: 600_000,
  policyFault: "version 3 cannot be read",
  journalFault: "disk full",
  auditFault: "disk full",
  record: { desired: "drained", desiredWallMs: 0, desiredReason: "new disks" },
  drain: { step: "leases", sinceMs: 0, isStuck: true, left: [{ kind: "leases", count: 12 }] },
  configDigest: "d1",
  peers: (["alive", "dead", "suspect"] as const).map((status) => ({ nodeId: "n2", status, version: "1.0.0", configDigest: "d2" })),
};

test("the command of each finding runs", async () => {
  const findings = findingsOf(ALL_WRONG);
  const [, table = ""] = readFileSync("docs/guides/peers.md", "utf8").split("| finding | severity | meaning |\n");
  const [rows = ""] = table.split("\n\n");
  const documented = [...rows.matchAll(/^\| (.*?) \|/gm)].flatMap(([, ids = ""]) => [...ids.matchAll(/`(\w+)`/g)].map(([, id = ""]) => id));
  expect([...findings.map(({ id }) => id), "no_answer"].toSorted()).toEqual(documented.toSorted());
  expect(await faultsOf([...new Set(findings.map(({ command }) => command))])).toEqual([]);
});

test("status names both nodes whose settings differ, and the command of the finding names the setting", async () => {
  const differ = /^warning +(\w+) +settings_differ/gm;
  let status: Ran | undefined;
  await until("status names both nodes", async () => {
    status = await waymark(["status", "-o", "wide", "--server", n1.grpc]);
    const named = [...status.stdout.matchAll(differ)].map(([, node]) => node);
    return ["n1", "n2"].every((node) => named.includes(node)) ? [] : [status.stdout];
  });
  expect(status?.exit).toBe(EXIT.failed);
  const command = /waymark mesh config diff \w+ \w+/.exec(status?.stdout ?? "")?.[0];
  const { exit, stdout } = await runCommand(command ?? "");
  expect([exit, stdout]).toEqual([EXIT.failed, expect.stringMatching(/limits\.reads_per_minute.*600000/) as string]);
  expect(stdout.trimEnd().split("\n")).toHaveLength(2);
});
