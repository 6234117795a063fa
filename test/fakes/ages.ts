/** Ages of answers, for tests that are about something else. */
import { replicaAge } from "../../src/services/discovery/answer-age.ts";

/** Of an answer that is as new as can be. */
export const NEW = replicaAge(0);
