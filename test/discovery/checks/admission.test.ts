/** Which checks a registration may bring. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { CheckSchema, EntrySchema } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { type AdmissionParts, CheckAdmission, hasAliasCheck } from "../../../src/discovery/checks/admission.ts";
import { ProbeAllowList } from "../../../src/discovery/checks/probe-allow-list.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { NO_POLICY, Policy } from "../../../src/policy/set/verdict.ts";
import { caller, keyOf } from "../../fakes/registry.ts";

type CheckInit = MessageInitShape<typeof CheckSchema>;

const PARTS: AdmissionParts = {
  isEnabled: true,
  reach: new ProbeAllowList(["10.0.0.0/8"]),
  clusterId: "c1",
  policies: { policy: NO_POLICY },
  onDenied: () => undefined,
  hasAlias: () => false,
};

function entry(checks: readonly CheckInit[], hosts: readonly string[] = ["10.0.0.1"]) {
  const targets = hosts.map((host, i) => ({ name: i === 0 ? "" : `t${i}`, host, port: 80 }));
  return create(EntrySchema, { targets, checks: checks.map((check) => create(CheckSchema, check)) });
}

const TCP = { probe: { case: "tcp", value: {} } } as const;
const aliasOf = (name: string, namespace = "svc"): CheckInit => ({
  probe: { case: "alias", value: { key: { namespace, name, instanceId: "1" } } },
});

/** The refusal of one request with these entries, named `a`, `b`, …; empty when there is none. */
function refusal(entries: readonly ReturnType<typeof entry>[], parts: Partial<AdmissionParts> = {}, by = caller("ann")): string {
  const admission = new CheckAdmission({ ...PARTS, ...parts });
  const keys = entries.map((_, i) => keyOf("abc".charAt(i)));
  try {
    entries.forEach((each, i) => admission.checkEnabled(each, i));
    admission.check(entries, keys, by);
    return "";
  } catch (error) {
    if (!(error instanceof WaymarkError)) throw error;
    const [violation] = error.details.violations ?? [];
    // A client that points at the field finds the same words there.
    if (violation !== undefined) expect(error.message).toContain(`${violation.field}: ${violation.description}`);
    return error.message;
  }
}

test("a node that runs no checks refuses an entry with checks, and no other", () => {
  expect(refusal([entry([]), entry([TCP])], { isEnabled: false })).toMatch(/^checks_disabled: entries\[1\]\.checks: .*checks\.enabled/);
  expect(refusal([entry([])], { isEnabled: false })).toBe("");
  expect(refusal([entry([TCP])])).toBe("");
});

test.each([
  { host: "10.9.9.9", refused: false },
  { host: "192.168.0.1", refused: true },
  { host: "169.254.169.254", refused: true },
  { host: "127.0.0.1", refused: true },
  { host: "::ffff:10.0.0.1", refused: true },
  // A name is resolved at each look, and its address is tested then.
  { host: "metadata.internal", refused: false },
])("a check of $host, with 10.0.0.0/8 allowed, is refused: $refused", ({ host, refused }) => {
  const said = refusal([entry([TCP, { ...TCP, target: "t1" }], ["10.0.0.1", host])]);
  expect(said).toBe(
    refused
      ? `invalid_argument: entries[0].checks[1].target: ${host} is not in an address block of checks.allowed: add a block that contains it, or check another address`
      : "",
  );
});

test("targets that no check looks at may be anywhere", () => {
  expect(refusal([entry([TCP, { probe: { case: "ttl", value: {} } }], ["10.0.0.1", "127.0.0.1"])])).toBe("");
});

test("an alias follows one step: of itself, and of an entry with aliases, in the request or held, it is refused", () => {
  const held = { hasAlias: (key: string) => key === keyOf("held") };
  expect(refusal([entry([aliasOf("other")])], held)).toBe("");
  expect(refusal([entry([aliasOf("a")])], held)).toMatch(
    /^invalid_argument: entries\[0\]\.checks\[0\]\.alias\.key: must be the key of another entry/,
  );
  expect(refusal([entry([TCP, aliasOf("held")])], held)).toMatch(
    /^invalid_argument: entries\[0\]\.checks\[1\]\.alias\.key: .*cannot be chained/,
  );
  expect(refusal([entry([aliasOf("b")]), entry([TCP])], held)).toBe("");
  expect(refusal([entry([aliasOf("b")]), entry([aliasOf("other")])], held)).toMatch(
    /entries\[0\]\.checks\[0\]\.alias\.key: .*cannot be chained/,
  );
  expect(refusal([entry([{ probe: { case: "alias", value: {} } }])])).toMatch(/alias\.key: is required/);
  expect([hasAliasCheck(entry([TCP])), hasAliasCheck(entry([aliasOf("b")])), hasAliasCheck(undefined)]).toEqual([false, true, false]);
});

test("an alias into a namespace that its caller may not see is refused and audited, whether the entry exists or not", () => {
  const rule = {
    pattern: "secret",
    owners: [],
    visibility: [],
    visibilityTenants: ["blue"],
    exportScopes: [],
    allowSummaries: false,
    cutoverWindows: [],
    policyVersion: "",
    priority: 0,
    quota: { entries: 0, watches: 0, bytes: 0 },
  };
  const denied: string[] = [];
  const parts = {
    policies: { policy: new Policy({ version: "v1", defaultAllow: true, rules: [rule] }, 1) },
    onDenied: (_: unknown, { action, namespace }: { action: string; namespace: string }) => denied.push(`${action} ${namespace}`),
    hasAlias: () => true,
  };
  const asked = [entry([aliasOf("x", "secret")])];
  expect(refusal(asked, parts, { ...caller("red"), tenant: "red" })).toBe(
    "discovery_access_denied: permission denied: entries[0].checks[0].alias.key.namespace: secret is not visible to this caller (viewer_denied)",
  );
  expect(denied).toEqual(["register secret"]);
  expect(refusal(asked, { ...parts, hasAlias: () => false }, { ...caller("blue"), tenant: "blue" })).toBe("");
});
