/**
 * The public conformance suite of Connect (connectrpc.com/conformance) against the gRPC of src/grpc, as server and as client: each against
 * the suite's own reference implementation and against grpc-go, plain and with TLS, with identity and gzip. No exception is allowed.
 */
import { expect, test } from "vitest";
import { run } from "../../scripts/run.ts";
import { isConformanceThere } from "./needs.ts";

const isThere = await isConformanceThere();
const NEEDS = "needs connectconformance of test/interop/go-tools.txt on the PATH";

/** Cases that the suite has for what the YAML files say we support: fewer would mean that something was not asked. */
const CASES = { server: 566, client: 634 } as const;

test.skipIf(!isThere).each(["server", "client"] as const)(`every case of the suite passes for the %s (${NEEDS})`, async (mode) => {
  const child = [process.execPath, `test/conformance/${mode}-child.ts`];
  const { code, output } = await run("connectconformance", ["--conf", `test/conformance/${mode}.yaml`, "--mode", mode, "--", ...child]);
  expect(output.slice(-4_000)).toContain(`Total cases: ${CASES[mode]}\n${CASES[mode]} passed, 0 failed`);
  expect(code).toBe(0);
});
