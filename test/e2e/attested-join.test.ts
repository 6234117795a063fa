/** A machine joins real nodes with a signed token instead of a join token, as the join policy allows. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { type Ran, waymark } from "../fakes/cli-world.ts";
import { AUDIENCE, ISSUER, TestIssuer } from "../fakes/issuer.ts";
import { startNodeProcess } from "../fakes/node-process.ts";

const folder = mkdtempSync(join(tmpdir(), "waymark-attested-"));
const dirOf = (name: string) => join(folder, name);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function outputOf(ran: Promise<Ran>): Promise<string> {
  const { exit, stdout, stderr } = await ran;
  if (exit !== 0) throw new Error(`exit ${exit}: ${stderr}`);
  return stdout;
}

test("a pod joins with the token of its service account, and another namespace is refused", { tags: ["night"] }, async () => {
  const caDir = dirOf("ca");
  await outputOf(waymark(["ca", "init", "--node", "eu-1", "--cluster-id", "eu", "--ca-dir", caDir, "--data-dir", dirOf("eu-1")]));
  await using issuer = await startNodeProcess(["--data-dir", dirOf("eu-1")]);
  const pods = await TestIssuer.create();
  const policy = `
issuers:
  - name: k8s
    issuer: ${ISSUER}
    audience: ${AUDIENCE}
    jwks: '${await pods.jwks()}'
    algorithms: [ES256]
rules:
  - effect: deny
    names: ["eu-9*"]
  - effect: allow
    roles: [node]
    names: ["eu-*"]
    token: replaced
    attested:
      issuer: k8s
      claims:
        - { path: kubernetes.io/namespace, values: [waymark] }
`;
  const on = (argv: readonly string[], files: Readonly<Record<string, string>> = {}) =>
    waymark([...argv, "--server", issuer.grpc], { files });
  expect(await on(["mesh", "join-policy", "show"])).toMatchObject({
    exit: 0,
    stderr: expect.stringMatching(/^there is no join policy/) as string,
  });
  const broken = await on(["mesh", "join-policy", "apply", "P"], { P: policy.replace("effect: deny", "effect: perhaps") });
  expect(broken.stderr).toMatch(/P:9: effect: "perhaps" is not one of allow, deny\nerror: nothing was applied/);
  await outputOf(on(["mesh", "join-policy", "apply", "P"], { P: policy }));
  const late = await on(["mesh", "join-policy", "apply", "P", "--expect", "7"], { P: policy });
  expect(late.stderr).toContain("expected_version: the join policy has version 1, got 7");
  const shown = await outputOf(on(["mesh", "join-policy", "show"]));
  expect(await outputOf(on(["mesh", "join-policy", "apply", "S", "--expect", "1", "-o", "json"], { S: shown }))).toMatch(/"version": 2/);

  const root = readFileSync(join(caDir, "root.pem"), "utf8");
  const joined = async (name: string, namespace: string) => {
    const jwt = await pods.token({ subject: `${namespace}:node`, claims: { "kubernetes.io": { namespace } } });
    const flags = [
      "--server",
      issuer.listeners["fabric"] ?? "",
      "--attestation-file",
      "J",
      "--ca",
      "R",
      "--cluster-id",
      "eu",
      "--node-id",
      name,
    ];
    return waymark(["mesh", "join", ...flags, "--data-dir", dirOf(name)], { files: { J: jwt, R: root } });
  };
  expect((await joined("eu-7", "guest")).stderr).toContain("attestation: the claim kubernetes.io/namespace does not have the value");
  expect((await joined("eu-99", "waymark")).stderr).toContain("the join policy does not allow eu-99 to join without a token");
  expect(await joined("eu-7", "waymark")).toMatchObject({
    exit: 0,
    stderr: expect.stringMatching(/^this machine is node eu-7 of cluster eu /) as string,
  });
  expect(await outputOf(on(["cert", "list", "-o", "json"]))).toMatch(/"attestedBy": "k8s\/waymark:node"/);
  await using node = await startNodeProcess(["--data-dir", dirOf("eu-7")]);
  expect(node.nodeId).toBe("eu-7");
});
