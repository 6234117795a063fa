/** What a neighbour `ap1` of region ap may make up. Nobody is to believe any of it. */
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { KIND } from "../../../src/catalog/record/record.ts";
import { CONTEXT } from "../../../src/signing/signer.ts";
import { encodeSummary } from "../../../src/summary/codec.ts";
import { BAND, type Sealed, type Summary } from "../../../src/summary/summary.ts";
import { signingKey } from "../../fakes/signing-keys.ts";

/** The keys of the clusters eu1 and ap1, as `Regions` gives them. */
const [OF_EU, OF_AP] = [signingKey(1), signingKey(3)];

function summary(fields: Partial<Summary>, wallMs: number): Uint8Array {
  const key = { source: "eu1", kind: KIND.SERVICE, namespace: "svc", serviceId: "forged", channel: SCOPE.GLOBAL } as const;
  const facts = { regions: ["eu"], endpointCount: 3, band: BAND.HEALTHY, latency: { minMs: 0, maxMs: 0 } };
  const policy = { policyVersion: "", policyNumber: 0, policyRule: "", notAfterWallMs: undefined, noStale: false, withdrawn: false };
  const made = {
    version: Math.floor(wallMs / 1000),
    exporter: "eu1-a",
    keyId: OF_EU.keyId,
    ttlMs: 12_000,
    generatedWallMs: wallMs,
    tag: 7n,
  };
  return encodeSummary({ ...key, ...facts, ...policy, ...made, ...fields });
}

export function forgeries(wallMs: number): readonly Sealed[] {
  const unsigned = summary({}, wallMs);
  const byOther = summary({ keyId: OF_AP.keyId, serviceId: "forged2" }, wallMs);
  const elsewhere = summary({ source: "ap1", regions: ["eu"], keyId: OF_AP.keyId, exporter: "ap1-a", serviceId: "forged3" }, wallMs);
  const ahead = summary({ serviceId: "future", generatedWallMs: wallMs + 7_200_000, version: 2 ** 40 }, wallMs);
  const changed = Uint8Array.from(unsigned, (byte, i) => (i === unsigned.length - 1 ? byte ^ 1 : byte));
  return [
    { signed: ahead, signature: OF_EU.sign(CONTEXT.SUMMARY, ahead), hops: 0 },
    { signed: changed, signature: OF_EU.sign(CONTEXT.SUMMARY, unsigned), hops: 0 },
    { signed: unsigned, signature: OF_AP.sign(CONTEXT.SUMMARY, unsigned), hops: 1 },
    { signed: byOther, signature: OF_AP.sign(CONTEXT.SUMMARY, byOther), hops: 1 },
    { signed: elsewhere, signature: OF_AP.sign(CONTEXT.SUMMARY, elsewhere), hops: 0 },
  ];
}
