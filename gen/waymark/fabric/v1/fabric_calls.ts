// Made by scripts/gen-codec.ts from waymark/fabric/v1/fabric.proto: change that, then `npm run gen`.
import {
  decodeMaintainRequest,
  decodeMaintainResponse,
  decodeProbeIndirectRequest,
  decodeProbeIndirectResponse,
  decodeProbeRequest,
  decodeProbeResponse,
  decodePushPullRequest,
  decodePushPullResponse,
  encodeMaintainRequest,
  encodeMaintainResponse,
  encodeProbeIndirectRequest,
  encodeProbeIndirectResponse,
  encodeProbeRequest,
  encodeProbeResponse,
  encodePushPullRequest,
  encodePushPullResponse,
} from "./fabric_codec.ts";
import {
  checkMaintainRequest,
  checkMaintainResponse,
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
  maintain: {
    path: "/waymark.fabric.v1.FabricService/Maintain",
    request: { decode: decodeMaintainRequest, encode: encodeMaintainRequest, check: checkMaintainRequest },
    response: { decode: decodeMaintainResponse, encode: encodeMaintainResponse, check: checkMaintainResponse },
  },
  pushPull: {
    path: "/waymark.fabric.v1.FabricService/PushPull",
    request: { decode: decodePushPullRequest, encode: encodePushPullRequest, check: checkPushPullRequest },
    response: { decode: decodePushPullResponse, encode: encodePushPullResponse, check: checkPushPullResponse },
  },
} as const;
