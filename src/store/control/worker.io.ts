/** The owner of the control store's file, for its thread. A slow fsync blocks this thread, but no client stream. */
import { serving } from "../thread.io.ts";
import { ControlFile, type ControlFileOptions } from "./file.io.ts";

export const serve = serving((options: ControlFileOptions) => new ControlFile(options));
