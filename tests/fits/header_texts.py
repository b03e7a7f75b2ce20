"""Small headers in the manner of each family of programs, and FITS files made of them byte by byte."""

from __future__ import annotations

import math
from pathlib import Path

BLOCK = 2880
SHARED_HEADERS = Path(__file__).parents[3] / "shared" / "data" / "headers"
SHARED_DARKS = SHARED_HEADERS.parent / "darks"


def card(line: str) -> str:
    """`KEY = value / comment` as a card of 80 characters; other lines are only padded."""
    keyword, equals, rest = line.partition("=")
    if equals and len(keyword.strip()) <= 8 and not line.startswith(("COMMENT", "HISTORY")):
        line = f"{keyword.strip():8}= {rest.strip()}"
    return f"{line:80}"


def header_bytes(text: str) -> bytes:
    """A whole header: the cards of a text, END, and blanks up to a full block."""
    cards = "".join(card(line) for line in text.strip().splitlines()) + card("END")
    return cards.encode("latin-1").ljust(math.ceil(len(cards) / BLOCK) * BLOCK)


def data_bytes(size: int) -> bytes:
    return bytes(size).ljust(math.ceil(size / BLOCK) * BLOCK, b"\0")


def image(text: str = "", *, nx: int = 8, ny: int = 6, first: str = "SIMPLE = T") -> bytes:
    """An image HDU of 16 bit with these cards."""
    return header_bytes(
        f"{first}\nBITPIX = 16\nNAXIS = 2\nNAXIS1 = {nx}\nNAXIS2 = {ny}\n{text}"
    ) + data_bytes(2 * nx * ny)


def extension(text: str = "", *, nx: int = 8, ny: int = 6) -> bytes:
    return image(f"PCOUNT = 0\nGCOUNT = 1\n{text}", nx=nx, ny=ny, first="XTENSION= 'IMAGE   '")


def empty_primary(text: str = "") -> bytes:
    return header_bytes(f"SIMPLE = T\nBITPIX = 8\nNAXIS = 0\nEXTEND = T\n{text}")


CCDSOFT = """\
SIMPLE  =                    T/CCDSOFT-SOFTWARE BISQUE 3
BITPIX  =                   16
NAXIS   =                    2
NAXIS1  =                   64
NAXIS2  =                   48
BSCALE  = +1.000000000000E+000
BZERO   = +3.276800000000E+004
DATE-OBS= '2016-04-02T03:04:05.678'
TIME-OBS= '03:04:05.678        '
SWCREATE= 'CCDSoft Version 5.00.100'
SET-TEMP= -2.000000000000E+001
IMAGETYP= 'Dark Frame          '
XORGSUBF=                    0
YORGSUBF=                    0
XBINNING=                    2
YBINNING=                    2
CCD-TEMP= -1.987654321000E+001
TEMPERAT= -1.987654321000E+001
INSTRUME= 'SBIG ST-9 CCD Camera'
EGAIN   = +2.200000000000E+000
EXPTIME = +1.200000000000E+002
EXPOSURE= +1.200000000000E+002
"""

MAXIM = """\
SIMPLE  =                    T
BITPIX  =                   16 /8 unsigned int, 16 & 32 int, -32 & -64 real
NAXIS   =                    2 /number of axes
NAXIS1  =                   60 /fastest changing axis
NAXIS2  =                   40 /next to fastest changing axis
INSTRUME= 'ST-8    ' /          instrument or camera used
DATE-OBS= '2015-06-07T08:09:10' /YYYY-MM-DDThh:mm:ss observation start, UT
EXPTIME =   45.000000000000000 /Exposure time in seconds
SET-TEMP=  -15.000000000000000 /CCD temperature setpoint in C
CCD-TEMP=  -14.980000000000000 /CCD temperature at start of exposure in C
XBINNING=                    1 /Binning factor in width
YBINNING=                    1 /Binning factor in height
XORGSUBF=                   10 /Subframe X position in binned pixels
YORGSUBF=                   20 /Subframe Y position in binned pixels
READOUTM= 'Fast    ' /          Readout mode of image
IMAGETYP= 'DARK    ' /          Type of image
EGAIN   =   2.5000000000000000 /Electronic gain in e-/ADU
SWCREATE= 'MaxIm DL Version 6.10' /Name of software that created the image
CALSTAT = '        '
"""

NINA = """\
SIMPLE = T / C# FITS
BITPIX = 16 /
NAXIS = 2 / Dimensionality
NAXIS1 = 64 /
NAXIS2 = 32 /
IMAGETYP= 'DARK' / Type of exposure
EXPOSURE= 180.0 / [s] Exposure duration
EXPTIME = 180.0 / [s] Exposure duration
DATE-LOC= '2022-05-06T01:02:03.004' / Time of observation (local)
DATE-OBS= '2022-05-05T23:02:03.004' / Time of observation (UTC)
XBINNING= 1 / X axis binning factor
YBINNING= 1 / Y axis binning factor
GAIN = 100 / Sensor gain
OFFSET = 50 / Sensor gain offset
EGAIN = 0.245 / [e-/ADU] Electrons per A/D unit
INSTRUME= 'QHY268C' / Imaging instrument name
SET-TEMP= -5.0 / [degC] CCD temperature setpoint
CCD-TEMP= -5.1 / [degC] CCD temperature
READOUTM= 'Extend Fullwell 2CMS' / Sensor readout mode
BAYERPAT= 'RGGB' / Sensor Bayer pattern
ROWORDER= 'TOP-DOWN' / FITS Image Orientation
SWCREATE= 'N.I.N.A. 2.1.0.9001' / Software that created this file
"""

SGP = """\
NAXIS1 = 64
NAXIS2 = 32
DATE-LOC= '2019-02-03T05:06:07.1234567' / Local observation date
DATE-OBS= '2019-02-03T04:06:07.1234567' / UTC observation date
IMAGETYP= 'DARK    ' / Type of frame
CREATOR = 'Sequence Generator Pro v3.0.3.169' / Capture software
INSTRUME= 'QHY163M' / Instrument name
EXPOSURE= 600 / Exposure time in seconds
CCD-TEMP= -19.5 / Camera cooler temperature
SET-TEMP= -20 / Camera cooler target temperature
XBINNING= 1 / Camera X Bin
GAIN = 75 / Camera gain
EGAIN = 1.25 / Electrons Per ADU
OFFSET = 20 / Camera offset
"""

APT = """\
NAXIS1 = 64
NAXIS2 = 32
INSTRUME= 'ZWO ASI1600MM Pro' / The model Camera used
DATE-OBS= '2020-11-12T13:14:15' / The UTC date and time at the start of the expo
HIERARCH CAMERA-DATE-OBS = '2020-11-12T13:14:15'
EXPTIME = 90. / The total exposure time in seconds
XBINNING= 2 / Binning factor in width
EGAIN = 4.88 / Electronic gain in e-/ADU
JD = 2459166.05156250 / Julian Date
SWCREATE= 'Astro Photography Tool - APT v.3.88' / Imaging software
SNAPSHOT= 1 / Number of images combined
SET-TEMP= -20. / The setpoint of the cooling in C
IMAGETYP= 'Dark Frame' / The type of image
GAIN = 139 / The gain set (if supported)
"""

SHARPCAP = """\
NAXIS = 2
NAXIS1 = 64
NAXIS2 = 32
GAIN = 200 /
BLKLEVEL= 10 /
CAMID = 'A1B2C3D4E5F60708' /
SET-TEMP= -10 /
EGAIN = 0.5 / Electrons per ADU at true ADC bit depth
EGAINSAV= 0.03125 / Electrons per ADU at saved bit depth
ROWORDER= 'TOP-DOWN' /
EXPTIME = 30 / seconds
XBINNING= 1 /
YBINNING= 1 /
CCD-TEMP= -9.8 / C
SWCREATE= 'SharpCap v4.0.9000.0, 64 bit' /
DATE-OBS= '2024-08-09T10:11:12.7654321' / System Clock:Est. Frame Start
JD_UTC = 2460532.0 / Julian Date at mid exposure
RDNOISE = 1.5 / Read noise in electrons
COLORTYP= 'RGB' /
INSTRUME= 'ZWO ASI533MC Pro' /
"""

INDI_OLD = """\
NAXIS1 = 64
NAXIS2 = 32
FRAME = 'Dark'
CCD-TEMP= -20 / degrees celcius
EXPOSURE= 30000 / milliseconds
BINNING = '(2 x 2)'
PIX-SIZ = '9 microns square'
INSTRUME= 'Finger Lakes Instruments'
DATE-OBS= '2010-03-04T05:06:07'
"""

INDI = """\
NAXIS1 = 64
NAXIS2 = 32
EXPTIME = 60. / Total Exposure Time (s)
CCD-TEMP= -10. / CCD Temperature (Celsius)
FRAME = 'Dark' / Frame Type
IMAGETYP= 'Dark Frame' / Frame Type
XBINNING= 1 / Binning factor in width
YBINNING= 1 / Binning factor in height
GAIN = 100. / Gain
DATE-OBS= '2023-01-02T03:04:05.067' / UTC start date of observation
INSTRUME= 'ZWO CCD ASI183MM Pro' / CCD Name
ROWORDER= 'TOP-DOWN' / Row Order
COMMENT Generated by INDI
"""

INDIGO = """\
NAXIS1 = 64
NAXIS2 = 32
EXPTIME = 15.00 / exposure time [s]
CCD-TEMP= -12.50 / CCD temperature [C]
IMAGETYP= 'Dark' / frame type
GAIN = 90.00 / Gain
OFFSET = 12.00 / Offset
DATE-OBS= '2022-10-11T12:13:14.150' / UTC date that FITS file was created
ROWORDER= 'TOP-DOWN' / Image row order
"""

ORION = """\
SIMPLE = T / C# FITS: 3/4/2020 9:05:06 PM
BITPIX = -32
NAXIS = 2
NAXIS1 = 75
NAXIS2 = 58
INSTRUME= 'Orion G3 Deep Sky Monochromatic Camera' / Camera used
SWCREATE= 'Orion Camera Studio' / Name of the software that created the image
IMAGTYP = 'Dark Frame' / Type of image
CCD-TEMP= 1.5 / CCD temperature at start of exposure in C
SET-TEMP= 2.0 / CCD temperature setpoint in C
EXPTIME = 20 / Exposure time in seconds
DATE-OBS= '2020-03-04 T09:05:06' / Date
"""

DWARF = """\
NAXIS1 = 64
NAXIS2 = 32
DATE-OBS= '2024-02-03T04:05:06.789' / Time start to exposure
EXP = 15. / [s] Sub Exposure Time
GAIN = 80 / Sub Gain
BINNING = '2*2     ' / n*n pixels add together
BAYERPAT= 'GBRG    ' / Bayer pattern
TELESCOP= 'DWARFII '
INSTRUME= 'DWARFII '
"""

ARTEMIS = """\
NAXIS1 = 64
NAXIS2 = 32
DATE-OBS= '2012-02-03T14:15:16' /YYYY-MM-DDThh:mm:ss observation start, UT
EXPTIME = 5.0000000000000000 /Exposure time in seconds
SET-TEMP= 0.00000000000000000 /CCD temperature setpoint in C
CCD-TEMP= 1.2500000000000000 /CCD temperature at start of exposure in C
IMAGETYP= 'Dark Frame' / Type of image
SITELAT = '00 00 00'
SITELONG= '00 00 00'
CALSTAT = 'BD      '
INSTRUME= 'ArtemisHSC'
SWCREATE= 'MaxIm DL Version 5.08'
"""

THESKY = """\
NAXIS1 = 64
NAXIS2 = 32
EXPTIME = 300. / SBIGFITSEXT Total exposure time in seconds
SWCREATE= 'TheSkyX Version 10.5.0 Build 12000' / SBIGFITSEXT Name & version of s
PICTTYPE= 3 / Image type as index 0= Unknown 1=Light, 2=Bias,
IMAGETYP= 'Dark Frame' / SBIGFITSEXT Light, Dark, Bias or Flat
XBINNING= 2 / SBIGFITSEXT Binning factor in width
YBINNING= 2 / SBIGFITSEXT Binning factor in height
CCD-TEMP= -24.98 / SBIGFITSEXT Temperature of the CCD
SET-TEMP= -25. / SBIGFITSEXT The cooler setpoint in degrees C
INSTRUME= 'ASCOM Camera' / SBIGFITSEXT The model camera used.
DATE-OBS= '2022-07-08T09:10:11.120' / SBIGFITSEXT UTC of start exp. in ISO 8601
LOCALTIM= '7/8/2022 02:10:11.120 AM DST' / Local time at exposure start
"""

SBIG_UTIL = """\
BITPIX = 16 / number of bits per data pixel
NAXIS1 = 153
NAXIS2 = 102
DATE = '2013-10-30T21:07:31' / GMT date when this file created
DATE-OBS= '2013-10-30T21:07:37' / GMT start of exposure
EXPTIME = 2. / Exposure in seconds
CCD-TEMP= 21.5 / CCD temp in degress C
"""

MICROOBSERVATORY = """\
NAXIS1 = 65
NAXIS2 = 50
DATE-OBS= '2018-01-02T18:33:43.317-0700' / Start date & time of observation, LT
UT-OBS = '2018-01-03T01:33:43.317-0000' / Universal Time at start of obs.
MJD-OBS = 58121.065 / Modified Julian Date (MJD) at start of observation
EXPTIME = 060.00 / Exposure time in Seconds
INSTRUME= 'Main    ' / Camera selected
CAMTEMP = 263.15 / CCD Camera Temperature in Kelvin, =-1 if no data
TELTEMP = 287.0 / Ambient Telescope Temperature in Kelvin, =-1 if no data
"""

SAAO = """\
NAXIS1 = 53
NAXIS2 = 52
TELESCOP= 'SAAO 1.0m'
INSTRUME= 'STE4 CCD'
DATE-OBS= '2014-08-14' / UT date
IMAGETYP= 'dark      ' / IRAF image type
UT = '01:02:03' / UT at Exposure start
EXPTIME = 900.040 / integration time in secs
TRIMSEC =  '[   5: 50,   1: 52]' / Useful part of data
BIASSEC =  '[   1:  4,   1: 52]' / Overscan region
GAIN = 2.1 / e-/ADU
RDNOISE = 6.0 / e-(rms) read noise
CCD-TEMP= 173.15 / CCD Cu block temperature
MJD-OBS = 56883.0
"""

NOT = """\
NAXIS1 = 64
NAXIS2 = 32
TELESCOP= 'NOT     '
INSTRUME= 'ALFOSC_FASU'
DATE-OBS= '2009-05-06'
UT = 20.5 / TCS UTC at start (2009-05-06 20:30:00)
IMAGETYP= 'DARK    ' / Image type
EXPTIME = 600. / exposure time
CCDTEMP = 0.
DETXBIN = 2
DETYBIN = 1
"""

ING = """\
NAXIS1 = 64
NAXIS2 = 32
OBSTYPE = 'DARK'
DATE-OBS= '04/07/98'
UTSTART = '23:59:58.5'
EXPTIME = 1800.0
CCDXBIN = 1 / Binning factor, in X
CCDYBIN = 2 / Binning factor, in Y
CCDSTEMP= 173 / Required temperature of CCD, in Kevlin
CCDATEMP= 174 / Actual temperature of CCD, in Kevlin
CHIPNAME= 'TEK4              ' / Name of CCD chip
TRIMSEC = '[51:1074,1:400]   '
BIASSEC = '[1:50,1:400]      '
"""

LIVERPOOL = """\
NAXIS1 = 64
NAXIS2 = 32
OBSTYPE = 'DARK'
DATE-OBS= '2005-06-07T08:09:10.250'
EXPTIME = 100.0
GAIN = 2.7 / [electrons/count] calibrated by somebody
READNOIS= 7.5 / [electrons/pixel] from bias
CCDXBIN = 2 / [pixels] X binning factor
CCDYBIN = 2 / [pixels] Y binning factor
CCDSTEMP= 166 / [Kelvin] Required temperature.
CCDATEMP= 167 / [Kelvin] Actual temperature.
TELESCOP= 'Liverpool Telescope' / The Name of the Telescope
"""

ESO = """\
NAXIS1 = 64
NAXIS2 = 32
TELESCOP= 'VLT     '
INSTRUME= 'VIMOS   '
DATE-OBS= '2001-02-03'
MJD-OBS = 51943.5
UTC = 43200.25 / 12:00:00.250 UTC at start (sec)
EXPTIME = 600.
HIERARCH ESO DPR CATG = 'CALIB   ' / Observation category
HIERARCH ESO DPR TYPE = 'DARK    ' / Observation type
HIERARCH ESO DET WIN1 BINX = 2 / Binning factor along X
HIERARCH ESO DET WIN1 BINY = 4 / Binning factor along Y
HIERARCH ESO DET READ CURNAME = '50kHz high' / Name of the readout mode
"""

GEMINI = """\
NAXIS1 = 64
NAXIS2 = 32
INSTRUME= 'F2      '
OBSTYPE = 'DARK    ' / Observation type
OBSERVAT= 'Gemini-South' / Observatory
FRAME = 'AZEL_TOPO' / Target coordinate system
DATE-OBS= '2016-01-01' / UT date of observation (YYYY-MM-DD)
TIME-OBS= '19:47:32.1' / Time of observation
UTSTART = '19:47:37.078934' / UT at observation start
TIMESYS = 'UTC     ' / Time system used
COADDS = 1 / Number of coadds
EXPTIME = 8. / Exposure time (S)
GAIN = 4.44 / Detector Gain (e/ADU)
RDNOISE = 9. / Detector Readnoise (ADU) for CDS Reads
CHB_SETP= 80. / LS332-B Set Point Temp. (K)
TEMP_CHB= 80.5 / Detector Fanout Copper Block Temp (K)
READMODE= 'Bright  ' / Detector Readout mode
DETID = '109     ' / Rockwell Detector ID Number
"""

RUBIN = """\
NAXIS1 = 64
NAXIS2 = 32
IMGTYPE = 'DARK'
DATE-OBS= '2025-01-02T03:04:05.678'
DATE-BEG= '2025-01-02T03:04:05.678'
TIMESYS = 'TAI'
INSTRUME= 'lsstCam'
RAFTBAY = 'R22'
CCDSLOT = 'S11'
LSST_NUM= 'E2V-CCD250-001'
CCD_SERN= '20001'
CCDGAIN = 1.0
BINX = 1
BINY = 1
EXPTIME = 15.0
DARKTIME= 15.0126
CCDTEMP = -99.8
TEMP_SET= -100.0
BUNIT = 'adu'
PROGRAM = 'BLOCK-T1'
"""

DECAM = """\
NAXIS1 = 64
NAXIS2 = 32
INSTRUME= 'DECam   '
OBSTYPE = 'dark'
DATE-OBS= '2013-01-02T03:04:05.678901' / UTC epoch
TIMESYS = 'UTC'
EXPTIME = 300.0 / [s] Exposure duration
DARKTIME= 300.1 / [s] Dark time
DETPOS = 'N4'
DETECTOR= 'S3-200_000000-1-1'
GAINA = 4.0 / [electrons/adu] Gain for amp A
GAINB = 4.5 / [electrons/adu] Gain for amp B
RDNOISEA= 7.0 / [electrons] Read noise for amp A
RDNOISEB= 7.5 / [electrons] Read noise for amp B
CCDBIN1 = 1
CCDBIN2 = 1
BUNIT = 'adu'
TRIMSEC = '[57:2104,51:4146]'
"""

HSC = """\
NAXIS1 = 64
NAXIS2 = 32
DATA-TYP= 'DARK' / Characteristics of this data
DATE-OBS= '2014-03-04'
UT-STR = '06:15:55.908'
UT = '06:20:00.000'
EXPTIME = 300.0 / Exposure time
DET-ID = 51
T_CCDTV = -100.5 / CCD Temperature value [celsius degree]
T_GAIN1 = 3.0
T_GAIN2 = 3.2
T_GAIN3 = 3.4
T_GAIN4 = 3.6
T_CCDSN = '121'
"""

SUPRIMECAM = """\
NAXIS1 = 64
NAXIS2 = 32
INSTRUME= 'SuprimeCam'
DETECTOR= 'w93c2'
DATA-TYP= 'BIAS'
DATE-OBS= '2008-04-23'
UT = '08:05:00' / HH:MM:SS.S typical UTC at the exposure (middle
UT-STR = '08:02:27.204' / HH:MM:SS.S UTC at the start exposure time
TIMESYS = 'UTC'
EXPTIME = 0.0
DET-TMP = 166.25 / [Kelvin] Detector temperature
BIN-FCT1= 1
BIN-FCT2= 1
DETSER = '0'
BUNIT = 'ADU'
"""

MEGAPRIME = """\
NAXIS1 = 64
NAXIS2 = 32
INSTRUME= 'MegaPrime'
EXTNAME = 'ccd03'
OBSTYPE = 'DARK'
DATE-OBS= '2009-11-01' / Date at start of observation (UTC)
UTC-OBS = '14:33:32.40' / Time at start of observation (UTC)
TIMESYS = 'UTC'
EXPTIME = 900.04
DARKTIME= 900.0
CCDSUM = '1 1'
CCDNAME = '8352-00-1'
GAIN = 1.6 / Converting gain (e-/ADU) = Average [A,B] amps
RDNOISE = 4 / Read noise (electrons) = Average [A,B] amps
SATURATE= 65535 / Saturation value (ADU)
DETTEM = -120.5 / Temp. Cold Plate (C)
TEMPERAT= 0.9 / temp, air, weather tower deg C
BIASSEC = '[0:0,0:0]'
"""

CCDPROC_GUIDE = """\
NAXIS1 = 64
NAXIS2 = 32
BITPIX = -32
IMAGETYP= 'DARK    '
DATE-OBS= '2018-08-22T04:00:01'
EXPTIME = 1000.0
EXPOSURE= 1000.0
CCD-TEMP= -10.0
SET-TEMP= -10.0
INSTRUME= 'Aspen CG16M'
BUNIT = 'electron'
BIASSEC = '[4097:4109, 1:4096]'
TRIMSEC = '[1:4096, 1:4096]'
COMBINED= T
NCOMBINE= 20
HIERARCH subtract_overscan = 'suboscan' / Shortened name for ccdproc command
SUBOSCAN= 'ccd=<CCDData>, overscan=<CCDData>, median=True'
HIERARCH trim_image = 'trimim' / Shortened name for ccdproc command
TRIMIM = 'ccd=<CCDData>'
HIERARCH subtract_bias = 'subbias' / Shortened name for ccdproc command
SUBBIAS = 'ccd=<CCDData>, master=<CCDData>'
"""

PIXINSIGHT = """\
NAXIS1 = 64
NAXIS2 = 32
IMAGETYP= 'Master Dark'
DATE-OBS= '2021-02-03T04:05:06'
EXPTIME = 300.
INSTRUME= 'ZWO ASI2600MM Pro'
HISTORY ImageIntegration.pixelCombination: Average
HISTORY ImageIntegration.numberOfImages: 25
"""

SIRIL = """\
NAXIS1 = 64
NAXIS2 = 32
IMAGETYP= 'DARK    '
DATE-OBS= '2021-02-03T04:05:06.000'
EXPTIME = 120.
LIVETIME= 3600. / Total exposure of the stack
STACKCNT= 30 / Stack frames
PROGRAM = 'Siril 1.2.0'
GAIN = 100
OFFSET = 30
INSTRUME= 'ZWO ASI2600MC Pro'
"""

APP = """\
NAXIS1 = 64
NAXIS2 = 32
BITPIX = -32
DATE = '2023-03-09T11:57:12' / creation date of MasterDark
SOFTWARE= 'Astro Pixel Processor by Aries Productions' / software
CALFRAME= 'MasterDark' / master dark frame
INSTRUME= 'ZWO ASI294MC Pro' / instrument name
EXPTIME = 60. / exposure time (s)
GAIN = 120.0 / gain or ISO depending on instrument
NUMFRAME= 40 / # number of frames used in MasterDark creation
"""

ALL = {name: text for name, text in list(globals().items()) if name.isupper() and isinstance(text, str)}
