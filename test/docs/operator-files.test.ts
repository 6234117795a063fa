/** The files that operators copy: alerts, the systemd unit and the container. */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { ROOT } from "../../scripts/run.ts";
import { ALL_VERBS as VERBS } from "../../src/cli/table/full.ts";
import { loadConfig } from "../../src/config/load.ts";
import { parseDurationMs } from "../../src/lib/duration.ts";
import { METRICS } from "../../src/lib/metrics/metrics.ts";
import { startNodeProcess } from "../fakes/node-process.ts";

const ALERTS = "docs/examples/prometheus/alerts.yaml";
const isPromtool = spawnSync("promtool", ["--version"]).error === undefined;

interface Rules {
  readonly groups: readonly {
    readonly rules: readonly { readonly alert: string; readonly expr: string; readonly annotations: Readonly<Record<string, string>> }[];
  }[];
}
const rules = (parse(readFileSync(ALERTS, "utf8")) as Rules).groups.flatMap((group) => group.rules);

describe.skipIf(!isPromtool)(`promtool${isPromtool ? "" : " (skipped: needs promtool)"}`, () => {
  test.each([
    { verb: "config", file: "scrape.yaml", command: "check" },
    { verb: "rules", file: "alerts.yaml", command: "check" },
    { verb: "rules", file: "alerts.test.yaml", command: "test" },
  ])("$command $verb takes $file", ({ command, verb, file }) => {
    const { status, stdout, stderr } = spawnSync("promtool", [command, verb, file], { cwd: "docs/examples/prometheus", encoding: "utf8" });
    expect({ status, stdout, stderr }).toMatchObject({ status: 0 });
  });
});

test.each(rules)("the alert $alert asks for metrics that there are, and names a page that there is", ({ expr, annotations }) => {
  const names = [...expr.matchAll(/\b(?:waymark|mesh|discovery|dns|rpc)_\w+/g)].map(([name]) => name.replace(/_bucket$/, ""));
  expect(names.filter((name) => !(name in METRICS))).toEqual([]);
  const pages = [
    ...Object.values(annotations)
      .join(" ")
      .matchAll(/docs\/[\w/-]+\.md/g),
  ].map(([page]) => page);
  expect(pages.filter((page) => !existsSync(page))).toEqual([]);
});

test.each([
  { page: "docs/guides/resolver.md", least: 3 },
  { page: "docs/runbooks/resolver-gap.md", least: 3 },
  { page: "docs/guides/regions.md", least: 5 },
  { page: "docs/runbooks/export-lag.md", least: 1 },
  { page: "docs/runbooks/summary-not-seen.md", least: 1 },
  { page: "docs/runbooks/lost-region.md", least: 1 },
  { page: "docs/runbooks/no-exporter.md", least: 2 },
  { page: "docs/runbooks/no-leader.md", least: 0 },
  { page: "docs/runbooks/leader-flaps.md", least: 1 },
  { page: "docs/runbooks/store-unavailable.md", least: 1 },
  { page: "docs/runbooks/split-brain.md", least: 0 },
])("$page names metrics and alerts that there are", ({ page, least }) => {
  const text = readFileSync(page, "utf8");
  const named = [...text.matchAll(/`?\b((?:waymark|discovery|rpc)_[a-z_]+_\w+|discovery_summaries|summary_export_\w+)/g)].map(
    ([, name = ""]) => name,
  );
  expect(named.length).toBeGreaterThanOrEqual(least);
  expect(named.filter((name) => !(name in METRICS) && name !== "discovery_access_denied")).toEqual([]);
  const alerts = [...text.matchAll(/`(Waymark\w+)`/g)].map(([, alert]) => alert);
  expect(alerts.filter((name) => !rules.some(({ alert }) => alert === name))).toEqual([]);
});

test("the systemd unit runs commands that there are, and waits longer than a stop may take", () => {
  const unit = readFileSync("docs/examples/systemd/waymark.service", "utf8");
  const commands = [...unit.matchAll(/^Exec\w+=\/opt\/waymark\/bin\/waymark (.*)$/gm)].map(([, command = ""]) => command);
  expect(commands).toHaveLength(2);
  const known = commands.map((command) => VERBS.find(({ path }) => command.startsWith(`${path} `))?.path);
  expect(known).toEqual(["config validate", "serve"]);
  const loaded = loadConfig({ env: {}, flags: new Map() });
  const stopMs = loaded.ok ? loaded.effective.settings.node.stopTimeoutMs : Number.NaN;
  expect(parseDurationMs(/^TimeoutStopSec=(\S+)$/m.exec(unit)?.[1] ?? "")).toBeGreaterThan(stopMs);
});

test("the systemd unit starts a node again that a reload ended before its program ran: a death by SIGHUP is a clean end to systemd", () => {
  const unit = readFileSync("docs/examples/systemd/waymark.service", "utf8");
  expect(/^ExecReload=.* -HUP /m.test(unit)).toBe(true);
  expect(/^RestartForceExitStatus=(.*)$/m.exec(unit)?.[1]?.split(" ")).toContain("SIGHUP");
});

test("a node starts with the address families that the systemd unit allows, and without netlink where it need not ask for its addresses", async () => {
  const unit = readFileSync("docs/examples/systemd/waymark.service", "utf8");
  const allowed = /^RestrictAddressFamilies=(.*)$/m.exec(unit)?.[1]?.replaceAll(" ", ",") ?? "";
  const under = (families: string) => ["python3", join(ROOT, "test/fakes/only-families.py"), families];
  const everywhere = ["--ephemeral", "--host", "0.0.0.0", "--insecure"];
  await using published = await startNodeProcess(everywhere, under(allowed));
  expect(published.grpc).toMatch(/^0\.0\.0\.0:/);
  const without = under(allowed.replace(",AF_NETLINK", ""));
  await using told = await startNodeProcess([...everywhere, "--advertise-host", "127.0.0.1"], without);
  expect(told.grpc).toMatch(/^0\.0\.0\.0:/);
  await expect(startNodeProcess(everywhere, without)).rejects.toThrow(/set listen\.advertise_host/);
});

test("the container opens the ports that a node has by default, and runs a Node.js that is new enough", () => {
  const file = readFileSync("docs/examples/docker/Dockerfile", "utf8");
  const loaded = loadConfig({ env: {}, flags: new Map() });
  if (!loaded.ok) throw new Error("the defaults are no settings");
  const { listen, fabric, dns } = loaded.effective.settings;
  expect(/^EXPOSE (.*)$/m.exec(file)?.[1]?.split(" ")).toEqual([
    `${listen.grpcPort}`,
    `${fabric.port}`,
    `${listen.httpPort}`,
    `${dns.udpPort}/udp`,
    `${dns.udpPort}/tcp`,
  ]);
  const { engines } = JSON.parse(readFileSync("package.json", "utf8")) as { readonly engines: { readonly node: string } };
  expect(`>=${/^FROM node:(\d+)/m.exec(file)?.[1]}`).toBe(engines.node);
});
