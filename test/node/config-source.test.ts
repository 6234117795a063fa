/** The settings that ConfigService returns, and its check of other settings. */
import { expect, test } from "vitest";
import { loadConfig } from "../../src/config/load.ts";
import { configSource } from "../../src/node/config-source.ts";

const SECRET = "ab".repeat(32);

function sourceOf(toml: string) {
  const loaded = loadConfig({ file: { name: "n.toml", text: toml, format: "toml" }, env: { WAYMARK_NODE__ZONE: "z1" }, flags: new Map() });
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems));
  return configSource(loaded.effective.settings, loaded.effective.origins);
}

test("a setting has its value as a person writes it, its origin, and whether nodes share it; a secret is masked", () => {
  const toml = `[dns]\nmax_ttl = "90s"\n[[tenants.credentials]]\ntenant = "a"\ntoken_sha256 = "${SECRET}"\n[tls]\ncert_file = "c"\nkey_file = "k"`;
  const { settings, digest } = sourceOf(toml);
  const of = (key: string) => settings.find((setting) => setting.key === key);
  expect(of("dns.max_ttl")).toMatchObject({
    value: "90s",
    origin: "file n.toml",
    valueType: "duration",
    reloadable: false,
    perNode: false,
  });
  expect(of("node.zone")).toMatchObject({ value: "z1", origin: "environment WAYMARK_NODE__ZONE", perNode: true, digest: "" });
  expect(of("tls.cert_file")).toMatchObject({ value: "c", reloadable: true, perNode: true });
  expect(of("node.id")).toMatchObject({ value: "", origin: "default" });
  // SIGHUP reads the token files again.
  expect(of("tenants.credentials")).toMatchObject({ reloadable: true, perNode: false });
  expect(of("tenants.credentials")?.value).toContain("[secret]");
  expect(JSON.stringify([settings, digest])).not.toContain(SECRET);
});

test.each([
  { what: "no settings", text: "", keys: [] },
  { what: "JSON", text: '{"dns": {"enabled": "yes"}}', format: "json" as const, keys: ["dns.enabled"] },
  { what: "no TOML", text: "[dns", keys: [""] },
  {
    what: "values",
    text: '[dns]\nmax_ttl = "1"\nnone = 1\n[limits]\nmax_targets = 0',
    keys: ["dns.max_ttl", "dns.none", "limits.max_targets"],
  },
  {
    what: "a row",
    text: '[[tenants.credentials]]\nroles = ["x"]',
    keys: ["tenants.credentials[0].tenant", "tenants.credentials[0].roles"],
  },
  { what: "a contradiction", text: '[dns]\nmin_ttl = "2m"', keys: ["dns.min_ttl"] },
  { what: "an exposed node", text: '[listen]\nhost = "0.0.0.0"', keys: [""] },
  // A node would refuse to start, but the answer would say whether the file exists.
  { what: "a file that does not exist", text: '[policy]\nfile = "/no/such/file"', keys: [] },
])("the check reports all problems with their keys: $what", ({ text, format = "toml" as const, keys }) => {
  const { problems } = sourceOf("").check(text, format);
  expect(problems.map(({ key }) => key)).toEqual(keys);
  for (const { message } of problems) expect(message).not.toBe("");
});

test("the check of a file with very many problems is bounded, and says so", () => {
  const text = Array.from({ length: 40_000 }, (_, i) => `k${i}=1`).join("\n");
  const { problems } = sourceOf("").check(text, "toml");
  expect(problems).toHaveLength(100);
  expect(problems.at(-1)).toEqual({ key: "", message: "only the first 99 problems are listed" });
});

test("the check warns of settings that give more access than intended", () => {
  expect(sourceOf("").check('[fabric]\ntrust = "permissive"', "toml")).toMatchObject({ problems: [], warnings: [/permissive/] });
});
