/**
 * Sixteen concurrent policy sets of almost 4 MB, from an owner and an admin: the node answers each with a bounded list, and its memory stays bounded.
 * @module-tag night
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { connect } from "node:http2";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { expect, onTestFinished, test } from "vitest";
import { ApplyPolicyRequestSchema, PolicyService } from "../../gen/waymark/policy/v1/policy_pb.js";
import { type LimitedNode, startLimitedNode, TOKENS } from "../fakes/limited-node.ts";

const OWNER_TOKEN = "token-of-the-owner";
const OWNER = `[[tenants.credentials]]
tenant = "c"
principal = "c-app"
token_sha256 = "${createHash("sha256").update(OWNER_TOKEN).digest("hex")}"
roles = ["owner:own"]
`;

type Rule = Readonly<Record<string, unknown>>;

function setOf(ruleCount: number, rule: (index: number) => Rule, dryRun = true): Uint8Array<ArrayBuffer> {
  const rules = Array.from({ length: ruleCount }, (_, index) => ({ namespace: `own.r-${index}`, ...rule(index) }));
  return new Uint8Array(toBinary(ApplyPolicyRequestSchema, create(ApplyPolicyRequestSchema, { policy: { rules }, dryRun })));
}

const texts = (count: number, text: string) => Array.from({ length: count }, () => text);
const windows = (count: number) => Array.from({ length: count }, () => ({}));

const tenants = (index: number, count: number) => Array.from({ length: count }, (_, place) => `tenant-${index % 100}-${place}`);
const DAY_SECONDS = 86_400;
const FIRST_DAY = 50_000;
const validWindows = (count: number) =>
  Array.from({ length: count }, (_, index) => {
    const seconds = BigInt((FIRST_DAY + index) * DAY_SECONDS);
    return { startsAt: { seconds }, endsAt: { seconds: seconds + 3600n }, exportScopes: [1] };
  });

const LARGEST = setOf(10_000, (index) => ({ visibilityTenants: tenants(index, 25) }));

const rssMiB = ({ process }: LimitedNode): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${process.command.pid}/status`, "utf8"))?.[1]) / 1024;

/** Result of each call: the number of problems, or the code of its refusal. */
async function ask(
  { process }: LimitedNode,
  method: "applyPolicy" | "validatePolicy",
  token: string,
  body: Uint8Array<ArrayBuffer>,
): Promise<number | string> {
  const headers = { "content-type": "application/proto", authorization: `Bearer ${token}` };
  const { parent, name, output } = PolicyService.method[method];
  const url = `http://${process.listeners["http"]}/${parent.typeName}/${name}`;
  const answer = await fetch(url, { method: "POST", headers, body });
  if (answer.status !== 200) return ((await answer.json()) as { code: string }).code;
  return fromBinary(output, new Uint8Array(await answer.arrayBuffer())).problems.length;
}

test.each([
  { what: "1,900,000 windows", body: setOf(10_000, () => ({ cutoverWindows: windows(190) })), ends: ["invalid_argument"] },
  {
    what: "1,900,000 empty tenants",
    body: setOf(10_000, () => ({ visibilityTenants: texts(190, "") })),
    ends: ["invalid_argument"],
  },
  {
    what: "20,000 windows without a start, the maximum of a set",
    body: setOf(100, () => ({ cutoverWindows: windows(200) })),
    ends: [1001, "invalid_argument", "resource_exhausted"],
  },
  {
    what: "250,000 tenants, as many as a set may have",
    body: LARGEST,
    ends: [0, "resource_exhausted"],
  },
  {
    what: "20,000 windows, as many as a set may have",
    body: setOf(100, () => ({ cutoverWindows: validWindows(200) })),
    ends: [0, "resource_exhausted"],
  },
])(
  "$what: sixteen concurrent calls keep a thousand problems each, and the memory of the node grows by at most 200 MB",
  async ({ body, ends }) => {
    await using node = await startLimitedNode(OWNER);
    // An owner may only change a set that is in force.
    const first = setOf(1, () => ({}), false);
    expect(await ask(node, "applyPolicy", TOKENS.operator, first)).toBe(0);
    const before = rssMiB(node);
    let peak = before;
    const timer = setInterval(() => {
      peak = Math.max(peak, rssMiB(node));
    }, 5);
    const calls = Array.from({ length: 8 }, () => [
      ask(node, "applyPolicy", OWNER_TOKEN, body),
      ask(node, "validatePolicy", TOKENS.operator, body),
    ]);
    const outcomes = await Promise.all(calls.flat());
    clearInterval(timer);
    for (const outcome of outcomes) expect(ends).toContain(outcome);
    expect(peak - before).toBeLessThan(200);
    expect((await fetch(`http://${node.process.listeners["http"]}/healthz`)).status).toBe(200);
  },
);

test("while a large set is checked, requests of that size are refused before they are decoded", async () => {
  await using node = await startLimitedNode("");
  const valid = ask(node, "validatePolicy", TOKENS.operator, LARGEST);
  const unreadable = new Uint8Array(LARGEST.length).fill(0xff);
  const others = await Promise.all(Array.from({ length: 15 }, () => ask(node, "applyPolicy", TOKENS.operator, unreadable)));
  expect(others).toContain("resource_exhausted");
  expect(await valid).toBe(0);
});

test("an admin's call does not wait for sixty rollbacks of an owner", async () => {
  await using node = await startLimitedNode(OWNER);
  const rules = (mark: string) => [
    { namespace: "own", visibilityTenants: [mark] },
    ...Array.from({ length: 300 }, (_, index) => ({ namespace: `other.r-${index}`, visibilityTenants: [`t-${index}`] })),
  ];
  for (const mark of ["first", "second"]) {
    const applied = await node.post("operator", "/waymark.policy.v1.PolicyService/ApplyPolicy", {
      policy: { version: mark, rules: rules(mark) },
    });
    expect(applied.status).toBe(200);
  }
  const session = connect(`http://${node.process.listeners["http"]}`);
  onTestFinished(() => session.destroy());
  const order: string[] = [];
  const sent = (who: string, method: string, token: string, body: string) =>
    new Promise<void>((resolve, reject) => {
      const path = `/waymark.policy.v1.PolicyService/${method}`;
      const headers = { ":method": "POST", ":path": path, "content-type": "application/json", authorization: `Bearer ${token}` };
      const stream = session.request(headers);
      stream.on("error", reject);
      stream.on("response", ({ ":status": status }) => order.push(`${who} ${status}`));
      stream.resume().on("end", resolve);
      stream.end(body);
    });
  const rollbacks = Array.from({ length: 60 }, () => sent("owner", "RollbackPolicy", OWNER_TOKEN, '{"dryRun":true}'));
  await Promise.all([...rollbacks, sent("admin", "ValidatePolicy", TOKENS.operator, '{"policy":{"version":"v"}}')]);
  const served = order.filter((outcome) => outcome.endsWith("200"));
  // The sets are large, so about 20 rollbacks fit into the bytes of one caller.
  expect(served.length).toBeGreaterThan(15);
  expect(served.indexOf("admin 200")).toBeGreaterThanOrEqual(0);
  expect(served.indexOf("admin 200")).toBeLessThan(10);
});
