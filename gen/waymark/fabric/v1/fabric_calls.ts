// Made by scripts/gen-codec.ts from waymark/fabric/v1/fabric.proto: change that, then `npm run gen`.
import {
  decodeProbeIndirectRequest,
  decodeProbeIndirectResponse,
  decodeProbeRequest,
  decodeProbeResponse,
  decodePushPullRequest,
  decodePushPullResponse,
  encodeProbeIndirectRequest,
  encodeProbeIndirectResponse,
  encodeProbeRequest,
  encodeProbeResponse,
  encodePushPullRequest,
  encodePushPullResponse,
} from "./fabric_codec.ts";
import {
  checkProbeIndirectRequest,
  checkProbeIndirectResponse,
  checkProbeRequest,
  checkProbeResponse,
  checkPushPullRequest,
  checkPushPullResponse,
} from "./fabric_rules.ts";

/** The methods of `FabricService`: their paths, and what is said in calls, as bytes and by the rules. */
export const CALLS = {
  link: {
    path: "/waymark.fabric.v1.FabricService/Link",
  },
  probe: {
    path: "/waymark.fabric.v1.FabricService/Probe",
    request: { decode: decodeProbeRequest, encode: encodeProbeRequest, check: checkProbeRequest },
    response: { decode: decodeProbeResponse, encode: encodeProbeResponse, check: checkProbeResponse },
  },
  probeIndirect: {
    path: "/waymark.fabric.v1.FabricService/ProbeIndirect",
    request: { decode: decodeProbeIndirectRequest, encode: encodeProbeIndirectRequest, check: checkProbeIndirectRequest },
    response: { decode: decodeProbeIndirectResponse, encode: encodeProbeIndirectResponse, check: checkProbeIndirectResponse },
  },
  pushPull: {
    path: "/waymark.fabric.v1.FabricService/PushPull",
    request: { decode: decodePushPullRequest, encode: encodePushPullRequest, check: checkPushPullRequest },
    response: { decode: decodePushPullResponse, encode: encodePushPullResponse, check: checkPushPullResponse },
  },
} as const;
