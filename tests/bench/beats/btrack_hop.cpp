// Two C functions over BTrack, so that it can be run hop by hop from Python. In a checkout of BTrack:
//   g++ -O2 -std=c++17 -fPIC -shared -include algorithm -DUSE_KISS_FFT -Isrc -Ilibs/kiss_fft130 THIS_FILE
//       src/BTrack.cpp src/OnsetDetectionFunction.cpp -x c++ libs/kiss_fft130/kiss_fft.c -lsamplerate -o libbtrack.so
#include "BTrack.h"

extern "C" {

void *btrack_new(int hop, int frame) { return new BTrack(hop, frame); }

int btrack_step(void *tracker, double *samples) {
    BTrack *btrack = static_cast<BTrack *>(tracker);
    btrack->processAudioFrame(samples);
    return btrack->beatDueInCurrentFrame() ? 1 : 0;
}
}
