/** The rules of join policies: which rule counts, for whom, and which policies are refused. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import {
  BootstrapService,
  BootstrapServiceApplyJoinPolicyRequestSchema,
  IdentityRole,
  JoinEffect,
  JoinPolicySchema,
  type JoinRuleSchema,
  JoinTokenUse,
} from "../../../gen/waymark/control/v1/bootstrap_pb.js";
import { policyOf } from "../../../src/control/identity/codec.ts";
import { type Attestation, checkPolicy, judgePolicy } from "../../../src/control/identity/join-policy.ts";
import { requestCheckOf } from "../../../src/services/contract.ts";

type Rule = MessageInitShape<typeof JoinRuleSchema>;
type Issuer = NonNullable<MessageInitShape<typeof JoinPolicySchema>["issuers"]>[number];

const { NODE, CLIENT, RESOLVER } = IdentityRole;
const ALLOW = { effect: JoinEffect.ALLOW } as const;
const DENY = { effect: JoinEffect.DENY } as const;
const NONE = "the request contains none";
const K8S: Issuer = {
  name: "k8s",
  issuer: "https://k8s.test",
  audience: "waymark",
  jwks: '{"keys":[{"kty":"EC"}]}',
  algorithms: ["ES256"],
};
const needs = (path: string, ...values: string[]) => ({ issuer: "k8s", claims: [{ path, values }] });
const REPLACED = { ...ALLOW, roles: [NODE], token: JoinTokenUse.REPLACED, attested: needs("kubernetes.io/namespace", "waymark") };

const POD: Attestation = {
  issuer: "k8s",
  subject: "system:serviceaccount:waymark:node",
  claims: {
    "kubernetes.io": { namespace: "waymark", pod: { name: "eu-7" } },
    "https://ci.test/branch": "main",
    groups: ["a", "mesh"],
    count: 7,
  },
};

const policyWith = (rules: Rule[], issuers: Issuer[] = [K8S]) => policyOf(create(JoinPolicySchema, { issuers, rules }));

interface Case {
  readonly what: string;
  readonly rules: Rule[];
  readonly role?: "client" | "node" | "resolver" | undefined;
  readonly name?: string;
  readonly attestation?: Attestation | string;
  readonly want: string;
}

/** The role and the attestation of an admitted newcomer, or the problem. */
function judged({ rules, name = "eu-7", attestation = NONE, ...rest }: Case): string {
  const role = "role" in rest ? rest.role : "node";
  const { refusal, ...found } = judgePolicy(policyWith(rules), { role, name, clusterId: "eu", attestation });
  return refusal === undefined ? [found.role, ...found.dnsNames, found.attestedBy].join(" ").trim() : refusal.problem;
}

const SUBJECT = "k8s/system:serviceaccount:waymark:node";

test.each<Case>([
  { what: "no rule", rules: [], want: "join_denied" },
  { what: "a rule for all", rules: [ALLOW], want: "node" },
  { what: "a denial before it", rules: [{ ...DENY, names: ["eu-*"] }, ALLOW], want: "join_denied" },
  { what: "a denial after it", rules: [ALLOW, { ...DENY, names: ["eu-*"] }], want: "node" },
  { what: "a denial of other names", rules: [{ ...DENY, names: ["db-*", "eu-"] }, ALLOW], want: "node" },
  { what: "names that do not match", rules: [{ ...ALLOW, names: ["eu-70", "*-8"] }], want: "join_denied" },
  { what: "one name of several", rules: [{ ...ALLOW, names: ["eu-1", "e*7"] }], want: "node" },
  { what: "another cluster", rules: [{ ...ALLOW, clusters: ["us", "eu*x"] }], want: "join_denied" },
  { what: "its cluster", rules: [{ ...ALLOW, clusters: ["us", "eu"] }], want: "node" },
  { what: "another role", rules: [{ ...ALLOW, roles: [CLIENT, RESOLVER] }], want: "join_denied" },
  { what: "the role of its token", rules: [{ ...ALLOW, roles: [CLIENT] }], role: "client", want: "client" },
  { what: "DNS names", rules: [{ ...ALLOW, dnsNames: ["a.test", "b.test"] }], want: "node a.test b.test" },
  { what: "an attestation that nothing needs", rules: [ALLOW], attestation: POD, want: "node" },
])("with a token and $what: $want", (row) => {
  expect(judged(row)).toBe(row.want);
});

test.each<Omit<Case, "rules"> & { readonly path: string; readonly values: string[] }>([
  { what: "nested", path: "kubernetes.io/namespace", values: ["other", "waymark"], want: `node ${SUBJECT}` },
  { what: "deeper", path: "kubernetes.io/pod/name", values: ["eu-7"], want: `node ${SUBJECT}` },
  { what: "with slashes in its name", path: "https://ci.test/branch", values: ["main"], want: `node ${SUBJECT}` },
  { what: "a list with the value", path: "groups", values: ["mesh"], want: `node ${SUBJECT}` },
  { what: "a list without the value", path: "groups", values: ["mes"], want: "not_attested" },
  { what: "another value", path: "kubernetes.io/namespace", values: ["waymar"], want: "not_attested" },
  { what: "missing", path: "kubernetes.io/node", values: ["undefined"], want: "not_attested" },
  { what: "an object", path: "kubernetes.io", values: ["[object Object]"], want: "not_attested" },
  { what: "a number", path: "count", values: ["7"], want: "not_attested" },
  { what: "of all objects", path: "constructor/name", values: ["Object"], want: "not_attested" },
  { what: "of all texts", path: "kubernetes.io/namespace/length", values: ["7"], want: "not_attested" },
])("a claim that is $what ($path): $want", ({ path, values, want, ...row }) => {
  const rules = [{ ...ALLOW, attested: needs(path, ...values) }];
  expect(judged({ ...row, rules, attestation: POD, want })).toBe(want);
});

test.each<Case>([
  { what: "no attestation", rules: [REPLACED], want: "not_attested" },
  { what: "an attestation", rules: [REPLACED], attestation: POD, want: `node ${SUBJECT}` },
  {
    what: "an attestation, and a token is needed too",
    rules: [{ ...REPLACED, token: JoinTokenUse.REQUIRED }],
    attestation: POD,
    want: "join_denied",
  },
  {
    what: "an attestation, and the policy says nothing of tokens",
    rules: [{ ...REPLACED, token: 0 }],
    attestation: POD,
    want: "join_denied",
  },
  { what: "an attestation of another issuer", rules: [REPLACED], attestation: { ...POD, issuer: "ci" }, want: "not_attested" },
  { what: "an attestation, and another name", rules: [{ ...REPLACED, names: ["eu-8"] }], attestation: POD, want: "join_denied" },
  { what: "the role of the rule", rules: [{ ...REPLACED, roles: [CLIENT] }], attestation: POD, want: `client ${SUBJECT}` },
  { what: "a denial of this role", rules: [{ ...DENY, roles: [NODE] }, REPLACED], attestation: POD, want: "join_denied" },
  { what: "a denial of another role", rules: [{ ...DENY, roles: [CLIENT] }, REPLACED], attestation: POD, want: `node ${SUBJECT}` },
  {
    what: "a denial of nodes, and a rule for clients",
    rules: [{ ...DENY, roles: [NODE] }, REPLACED, { ...REPLACED, roles: [CLIENT] }],
    attestation: POD,
    want: `client ${SUBJECT}`,
  },
  { what: "a rule for tokens only", rules: [ALLOW], attestation: POD, want: "join_denied" },
  {
    what: "a denial of its namespace",
    rules: [{ ...DENY, attested: needs("kubernetes.io/namespace", "waymark") }, REPLACED],
    attestation: POD,
    want: "join_denied",
  },
  {
    what: "a denial of another namespace",
    rules: [{ ...DENY, attested: needs("kubernetes.io/namespace", "guest") }, REPLACED],
    attestation: POD,
    want: `node ${SUBJECT}`,
  },
])("without a token, with $what: $want", (row) => {
  expect(judged({ ...row, role: undefined })).toBe(row.want);
});

test("an attestation is needed although a later rule denies, and a later rule can allow without one", () => {
  const rules: Rule[] = [{ ...ALLOW, attested: needs("groups", "mesh") }, { ...DENY, names: ["eu-*"] }, ALLOW];
  expect(judged({ what: "", rules, want: "" })).toBe("not_attested");
  expect(judged({ what: "", rules, name: "us-1", want: "" })).toBe("node");
});

test("without a policy, a token is enough, and an attestation alone is not", () => {
  const newcomer = { clusterId: "eu", name: "eu-7", attestation: POD };
  expect(judgePolicy(undefined, { ...newcomer, role: "resolver" })).toEqual({ role: "resolver", dnsNames: [], attestedBy: "" });
  expect(judgePolicy(undefined, { ...newcomer, role: undefined }).refusal).toEqual({
    problem: "join_denied",
    message: "name: the join policy does not allow eu-7 to join without a token",
  });
});

test.each<{ readonly what: string; readonly rules?: Rule[]; readonly issuers?: Issuer[]; readonly want: string }>([
  { what: "two issuers with a name", issuers: [K8S, K8S], want: "policy.issuers[1].name: k8s is the name of two issuers" },
  {
    what: "keys that are no JSON",
    issuers: [{ ...K8S, jwks: "-----BEGIN" }],
    want: "policy.issuers[0].jwks: must be a JWKS with public keys",
  },
  { what: "no keys", issuers: [{ ...K8S, jwks: '{"keys":[]}' }], want: "policy.issuers[0].jwks: must be a JWKS" },
  { what: "keys that are null", issuers: [{ ...K8S, jwks: "null" }], want: "policy.issuers[0].jwks: must be a JWKS" },
  {
    what: "a private key",
    issuers: [{ ...K8S, jwks: '{"keys":[{"kty":"EC"},{"kty":"EC","d":"x"}]}' }],
    want: "policy.issuers[0].jwks: must be a JWKS",
  },
  { what: "a shared key", issuers: [{ ...K8S, jwks: '{"keys":[{"kty":"oct","k":"x"}]}' }], want: "policy.issuers[0].jwks: must be a JWKS" },
  {
    what: "an unknown issuer",
    rules: [ALLOW, { ...ALLOW, attested: { issuer: "ci", claims: [] } }],
    want: "policy.rules[1].attested.issuer: ci is not the name of an issuer in policy.issuers",
  },
  { what: "a token that a denial replaces", rules: [{ ...REPLACED, ...DENY }], want: "policy.rules[0].token: is replaced only by" },
  { what: "a token that any role replaces", rules: [{ ...REPLACED, roles: [] }], want: "policy.rules[0].token: is replaced only by" },
  {
    what: "a token that two roles replace",
    rules: [{ ...REPLACED, roles: [NODE, CLIENT] }],
    want: "policy.rules[0].token: is replaced only by",
  },
  {
    what: "a token that nothing replaces",
    rules: [{ ...ALLOW, roles: [NODE], token: JoinTokenUse.REPLACED }],
    want: "policy.rules[0].token: is replaced only by",
  },
])("a policy with $what is refused", ({ rules = [], issuers = [K8S], want }) => {
  expect(() => checkPolicy(policyWith(rules, issuers), 0)).toThrow(`invalid_argument: ${want}`);
});

test("a policy has at most 64 KiB", () => {
  checkPolicy(policyWith([REPLACED]), 65_536);
  const want = "policy: has 65537 bytes of JSON, more than the maximum of 65536";
  expect(() => checkPolicy(policyWith([REPLACED]), 65_537)).toThrow(want);
});

const many = (count: number, of: Rule): Rule[] => Array.from({ length: count }, () => of);

test.each<{ readonly what: string; readonly rules?: Rule[]; readonly issuers?: Issuer[]; readonly want: string }>([
  { what: "257 rules", rules: many(257, ALLOW), want: "policy.rules: must have at most 256 items, got 257" },
  { what: "17 issuers", issuers: Array.from({ length: 17 }, () => K8S), want: "policy.issuers: must have at most 16 items, got 17" },
  { what: "no effect", rules: [ALLOW, {}], want: "policy.rules[1].effect: must be one of ALLOW, DENY" },
  { what: "two stars", rules: [{ ...ALLOW, names: ["eu-*", "*-*"] }], want: "policy.rules[0].names[1]: " },
  { what: "an empty name", rules: [{ ...ALLOW, names: [""] }], want: "policy.rules[0].names[0]: " },
  { what: "no claim", rules: [{ ...ALLOW, attested: { issuer: "k8s" } }], want: "policy.rules[0].attested.claims: is empty" },
  { what: "no value", rules: [{ ...ALLOW, attested: needs("sub") }], want: "policy.rules[0].attested.claims[0].values: is empty" },
  { what: "a bad DNS name", rules: [{ ...ALLOW, dnsNames: ["a..b"] }], want: "policy.rules[0].dns_names[0]: " },
  { what: "a shared-key algorithm", issuers: [{ ...K8S, algorithms: ["HS256"] }], want: "policy.issuers[0].algorithms[0]: " },
  { what: "no algorithm", issuers: [{ ...K8S, algorithms: [] }], want: "policy.issuers[0].algorithms: is empty" },
  { what: "keys of 32 KiB", issuers: [{ ...K8S, jwks: "x".repeat(32_769) }], want: "policy.issuers[0].jwks: " },
  { what: "a slash in an issuer's name", issuers: [{ ...K8S, name: "a/b" }], want: "policy.issuers[0].name: " },
])("a request with $what is refused", ({ rules = [], issuers = [], want }) => {
  const check = requestCheckOf(BootstrapService.method.applyJoinPolicy.input);
  check(create(BootstrapServiceApplyJoinPolicyRequestSchema, { policy: { issuers: [K8S], rules: many(256, REPLACED) } }));
  expect(() => check(create(BootstrapServiceApplyJoinPolicyRequestSchema, { policy: { issuers, rules } }))).toThrow(want);
});
